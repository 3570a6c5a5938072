package cbor_test

import (
	"fmt"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
)

// deposit is the schema {amount: int, memo?: bytes}.
var deposit = &abi.Schema{Type: abi.TypeRecord, Fields: []abi.Field{
	{Name: "amount", Schema: &abi.Schema{Type: abi.TypeInt}},
	{Name: "memo", Schema: &abi.Schema{Type: abi.TypeBytes}, Optional: true},
}}

func ExampleFromJSON() {
	cb, err := cbor.FromJSON([]byte(`{"amount": 1e2, "memo": "AQID"}`), deposit)
	fmt.Println(cbor.Diagnose(cb), err)

	// Without a schema, strings stay text.
	cb, err = cbor.FromJSON([]byte(`{"amount": 1e2, "memo": "AQID"}`), nil)
	fmt.Println(cbor.Diagnose(cb), err)
	// Output:
	// {"amount": 100, "memo": h'010203'} <nil>
	// {"amount": 100, "memo": "AQID"} <nil>
}

func ExampleFromJSON_errors() {
	for _, js := range []string{`{"ammount": 100}`, `{"amount": "100"}`, `{}`, `{"amount": 100`} {
		_, err := cbor.FromJSON([]byte(js), deposit)
		fmt.Println(err)
	}
	// Output:
	// invalid JSON at $.ammount, byte 1: no such field; did you mean "amount"?
	// invalid JSON at $.amount, byte 11: an integer expected, not a string
	// invalid JSON at $.amount, byte 0: the field is missing
	// invalid JSON at $, byte 14: a comma or } expected, but the input ends
}

func ExampleToJSON() {
	reply := abi.AppendMap(nil, 2)
	reply = abi.AppendText(reply, "balance")
	reply = abi.AppendInt(reply, 9007199254740993)
	reply = abi.AppendText(reply, "proof")
	reply = abi.AppendBytes(reply, []byte{1, 2, 3})

	js, err := cbor.ToJSON(reply, nil)
	fmt.Println(string(js), err)
	// Output: {"balance":9007199254740993,"proof":"AQID"} <nil>
}

func ExampleWellformed() {
	fmt.Println(cbor.Wellformed([]byte{0x82, 0x01, 0x02}))
	fmt.Println(cbor.Wellformed([]byte{0x82, 0x01, 0xff}))
	// Output:
	// <nil>
	// invalid CBOR at $, byte 2: indefinite lengths are not accepted
}

func ExampleMarshal() {
	type reply struct {
		Value int      `json:"value"`
		Tags  []string `json:"tags"`
	}
	cb, err := cbor.Marshal(reply{Value: 5})
	fmt.Println(cbor.Diagnose(cb), err)

	var back reply
	fmt.Println(cbor.Unmarshal(cb, &back), back.Value)
	// Output:
	// {"tags": [], "value": 5} <nil>
	// <nil> 5
}

func ExampleDiagnose() {
	fmt.Println(cbor.Diagnose([]byte{0xa1, 0x01, 0x42, 0xca, 0xfe}))
	fmt.Println(cbor.Diagnose([]byte{0xa1, 0x01}))
	// Output:
	// {1: h'cafe'}
	// malformed at byte 0, a count is longer than the input: h'a101'
}
