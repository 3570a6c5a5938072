package cbor

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

func typ(t abi.SchemaType) *abi.Schema       { return &abi.Schema{Type: t} }
func list(elem *abi.Schema) *abi.Schema      { return &abi.Schema{Type: abi.TypeList, Elem: elem} }
func mapOf(elem *abi.Schema) *abi.Schema     { return &abi.Schema{Type: abi.TypeMap, Elem: elem} }
func record(fs ...abi.Field) *abi.Schema     { return &abi.Schema{Type: abi.TypeRecord, Fields: fs} }
func nullable(s *abi.Schema) *abi.Schema     { c := *s; c.Nullable = true; return &c }
func need(n string, s *abi.Schema) abi.Field { return abi.Field{Name: n, Schema: s} }
func may(n string, s *abi.Schema) abi.Field  { return abi.Field{Name: n, Schema: s, Optional: true} }

// order is a schema that has a bit of everything.
var order = record(
	need("id", typ(abi.TypeText)),
	need("items", list(record(
		need("sku", typ(abi.TypeText)),
		need("by", typ(abi.TypeInt)),
		may("price", typ(abi.TypeFloat)),
	))),
	may("note", nullable(typ(abi.TypeText))),
	may("labels", mapOf(typ(abi.TypeUint))),
	may("blob", typ(abi.TypeBytes)),
	may("extra", nil),
)

func TestFromJSON(t *testing.T) {
	for _, c := range []struct {
		name   string
		schema *abi.Schema
		js     string
		want   string // hex
	}{
		// without a schema
		{"null", nil, `null`, "f6"},
		{"false", nil, `false`, "f4"},
		{"true", nil, " true\n", "f5"},
		{"zero", nil, `0`, "00"},
		{"negative zero is an integer", nil, `-0`, "00"},
		{"23", nil, `23`, "17"},
		{"24", nil, `24`, "1818"},
		{"-1", nil, `-1`, "20"},
		{"-500", nil, `-500`, "3901f3"},
		{"int64 max", nil, `9223372036854775807`, "1b7fffffffffffffff"},
		{"int64 min", nil, `-9223372036854775808`, "3b7fffffffffffffff"},
		{"uint64 max", nil, `18446744073709551615`, "1bffffffffffffffff"},
		{"beyond a float's integers", nil, `9007199254740993`, "1b0020000000000001"},
		{"integral with a fraction", nil, `1.0`, "01"},
		{"integral with an exponent", nil, `1e3`, "1903e8"},
		{"integral after all", nil, `1.25e2`, "187d"},
		{"integral, exact", nil, `9007199254740993.000`, "1b0020000000000001"},
		{"integral, negative exponent", nil, `1200e-2`, "0c"},
		{"zero times a lot", nil, `0e999999999999999999999`, "00"},
		{"uint64 max with an exponent", nil, `1844674407370955161.5e1`, "1bffffffffffffffff"},
		{"integral, too large, with an exponent", nil, `1e20`, "fb4415af1d78b58c40"},
		{"one and a half", nil, `1.5`, "fb3ff8000000000000"},
		{"tenth", nil, `0.1`, "fb3fb999999999999a"},
		{"tiny", nil, `1e-400`, "fb0000000000000000"},
		{"capital exponent", nil, `5E-1`, "fb3fe0000000000000"},
		{"text", nil, `"a"`, "6161"},
		{"empty text", nil, `""`, "60"},
		{"text like base64 stays text", nil, `"AQID"`, "6441514944"},
		{"escapes", nil, `"\"\\\/\b\f\n\r\t\u00e9"`, "6a225c2f080c0a0d09c3a9"},
		{"surrogate pair", nil, `"\ud83d\ude00"`, "64f09f9880"},
		{"nul", nil, `"\u0000"`, "6100"},
		{"raw utf-8", nil, `"日本語テキストです"`, "781be697a5e69cace8aa9ee38386e382ade382b9e38388e381a7e38199"},
		{"long text", nil, `"` + strings.Repeat("x", 300) + `"`, "79012c" + strings.Repeat("78", 300)},
		{"array", nil, `[1, [2,3] , []]`, "830182020380"},
		{"array of 24", nil, `[` + strings.Repeat("0,", 23) + `0]`, "9818" + strings.Repeat("00", 24)},
		{"array of 256 in an array", nil, `[[` + strings.Repeat("0,", 255) + `0],7]`, "82990100" + strings.Repeat("00", 256) + "07"},
		{"map", nil, `{"a":1,"b":{"":null}}`, "a2616101" + "6162a160f6"},
		{"order is kept", nil, `{"b":1,"a":2}`, "a2616201616102"},
		// with one
		{"any", typ(abi.TypeAny), `"x"`, "6178"},
		{"bool", typ(abi.TypeBool), `true`, "f5"},
		{"int", typ(abi.TypeInt), `1e2`, "1864"},
		{"int min", typ(abi.TypeInt), `-9.223372036854775808e18`, "3b7fffffffffffffff"},
		{"uint", typ(abi.TypeUint), `18446744073709551615.0`, "1bffffffffffffffff"},
		{"uint, negative zero", typ(abi.TypeUint), `-0.0`, "00"},
		{"float of an integer", typ(abi.TypeFloat), `2`, "fb4000000000000000"},
		{"float, negative zero", typ(abi.TypeFloat), `-0`, "fb8000000000000000"},
		{"float of a huge integer", typ(abi.TypeFloat), `100000000000000000000`, "fb4415af1d78b58c40"},
		{"bytes", typ(abi.TypeBytes), `"AQID_-8"`, "45010203ffef"},
		{"bytes, padded", typ(abi.TypeBytes), `"AQI="`, "420102"},
		{"bytes, padded twice", typ(abi.TypeBytes), `"AQ=="`, "4101"},
		{"no bytes", typ(abi.TypeBytes), `""`, "40"},
		{"bytes with an escape", typ(abi.TypeBytes), `"\u0041QID"`, "43010203"},
		{"nullable", nullable(typ(abi.TypeInt)), `null`, "f6"},
		{"nullable with a value", nullable(typ(abi.TypeInt)), `3`, "03"},
		{"list", list(typ(abi.TypeFloat)), `[1]`, "81fb3ff0000000000000"},
		{"map of uint", mapOf(typ(abi.TypeUint)), `{"x":1.0}`, "a1617801"},
		{"record", order, `{"id":"7","items":[{"sku":"s","by":2,"price":1}]}`,
			"a2" + "626964" + "6137" + "656974656d73" + "81" + "a3" + "63736b75" + "6173" + "626279" + "02" + "657072696365" + "fb3ff0000000000000"},
		{"record, other order", record(need("a", nil), need("b", nil)), `{"b":1,"a":2}`, "a2616201616102"},
		{"null drops an optional field", record(may("a", typ(abi.TypeInt)), need("b", nil)), `{"a":null,"b":null}`, "a16162f6"},
		{"null of a nullable optional field", record(may("a", nullable(typ(abi.TypeInt)))), `{"a":null}`, "a16161f6"},
		{"null of an optional any", record(may("a", nil)), `{"a":null}`, "a16161f6"},
		{"empty record", record(may("a", nil)), `{ }`, "a0"},
		{"no fields", record(), `{}`, "a0"},
		{"escaped name", record(need("by", nil)), `{"b\u0079":1}`, "a162627901"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := FromJSON([]byte(c.js), c.schema)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != c.want {
				t.Errorf("got %x\nwant %s", got, c.want)
			}
			if err := Wellformed(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFromJSONRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		schema *abi.Schema
		js     string
		want   string // the error after "invalid JSON at "
	}{
		{"nothing", nil, ``, "$, byte 0: there is no value; write {} for no parameters, or null"},
		{"white space", nil, "  \n", "$, byte 3: there is no value; write {} for no parameters, or null"},
		{"byte order mark", nil, "\xef\xbb\xbf{}", "$, byte 0: a byte order mark stands in front of the value"},
		{"word", nil, `nope`, "$, byte 0: a value expected; did you mean null?"},
		{"letter", nil, `{"a":x}`, "$.a, byte 5: a value expected, not x"},
		{"cut short", nil, `{"a":`, "$.a, byte 5: a value expected, but the input ends"},
		{"cut short in an array", nil, `[1`, "$, byte 2: a comma or ] expected, but the input ends"},
		{"cut short in an object", nil, `{"a":1`, "$, byte 6: a comma or } expected, but the input ends"},
		{"cut short in a string", nil, `["abc`, "$[0], byte 1: the string does not end"},
		{"cut short in an escape", nil, `"\`, "$, byte 0: the string does not end"},
		{"trailing comma", nil, `[1,]`, "$[1], byte 3: a value expected, not ]"},
		{"trailing comma of an object", nil, `{"a":1,}`, "$, byte 7: a name in quotes expected, not }"},
		{"no comma", nil, `[1 2]`, "$, byte 3: a comma or ] expected, not 2"},
		{"no colon", nil, `{"a" 1}`, "$.a, byte 5: a colon expected, not 1"},
		{"bare name", nil, `{a:1}`, "$, byte 1: a name in quotes expected, not a"},
		{"single quotes", nil, `{'a':1}`, `$, byte 1: a name in quotes expected, not '; JSON quotes with "`},
		{"something after it", nil, `{} {}`, "$, byte 3: something follows the end of the value"},
		{"NaN", nil, `NaN`, "$, byte 0: a value expected, not N"},
		{"stray byte", nil, "\x01", "$, byte 0: a value expected, not the byte 0x1"},
		{"leading zero", nil, `01`, "$, byte 0: a number with a leading zero"},
		{"plus", nil, `+1`, "$, byte 0: a value expected, not +"},
		{"minus alone", nil, `-`, "$, byte 1: a digit expected, but the input ends"},
		{"no digit after the point", nil, `1.`, "$, byte 2: a digit expected, but the input ends"},
		{"no digit in the exponent", nil, `1e+`, "$, byte 3: a digit expected, but the input ends"},
		{"64 bits", nil, `18446744073709551616`, "$, byte 0: 18446744073709551616 does not fit an integer of 64 bits"},
		{"64 bits, negative", nil, `{"a":[-9223372036854775809]}`, "$.a[0], byte 6: -9223372036854775809 does not fit an integer of 64 bits"},
		{"float range", nil, `1e999`, "$, byte 0: 1e999 is too large for a float of 64 bits"},
		{"duplicate", nil, `{"a":1,"b":2,"\u0061":3}`, "$.a, byte 13: the name stands twice"},
		{"control character", nil, "\"a\nb\"", "$, byte 2: a control character in a string; escape it"},
		{"control character after an escape", nil, "\"\\ta\nb\"", "$, byte 4: a control character in a string; escape it"},
		{"utf-8", nil, "\"ab\xffc\"", "$, byte 3: text is not UTF-8"},
		{"utf-8 in a name", nil, "{\"\xc3\":1}", "$, byte 2: text is not UTF-8"},
		{"utf-8 after an escape", nil, "\"\\n\xff\"", "$, byte 3: text is not UTF-8"},
		{"utf-8 before an escape", nil, "\"\xff\\n\"", "$, byte 1: text is not UTF-8"},
		{"encoded surrogate", nil, "\"\xed\xa0\x80\"", "$, byte 1: text is not UTF-8"},
		{"lone high surrogate", nil, `"\ud83d"`, "$, byte 1: a lone surrogate is no character"},
		{"lone low surrogate", nil, `"x\ude00"`, "$, byte 2: a lone surrogate is no character"},
		{"two high surrogates", nil, `"\ud83d\ud83d"`, "$, byte 1: a lone surrogate is no character"},
		{"short escape", nil, `"\u12"`, `$, byte 1: \u takes four hexadecimal digits`},
		{"unknown escape", nil, `"\x41"`, "$, byte 1: no such escape"},
		{"odd name", nil, `{"a b":{"":x}}`, `$["a b"][""], byte 11: a value expected, not x`},
		{"depth", nil, strings.Repeat("[", 65), "$" + strings.Repeat("[0]", 64) + ", byte 64: nested deeper than 64"},

		{"bool", typ(abi.TypeBool), `1`, "$, byte 0: true or false expected, not a number"},
		{"int", typ(abi.TypeInt), `"1"`, "$, byte 0: an integer expected, not a string"},
		{"int of a fraction", typ(abi.TypeInt), `1.5`, "$, byte 0: an integer expected, not 1.5"},
		{"int of a fraction with an exponent", typ(abi.TypeInt), `15e-1`, "$, byte 0: an integer expected, not 15e-1"},
		{"int range", typ(abi.TypeInt), `9223372036854775808`, "$, byte 0: 9223372036854775808 does not fit an integer of 64 bits"},
		{"int range with an exponent", typ(abi.TypeInt), `1e20`, "$, byte 0: 1e20 does not fit an integer of 64 bits"},
		{"uint", typ(abi.TypeUint), `-1`, "$, byte 0: an integer from 0 on expected, not -1"},
		{"float", typ(abi.TypeFloat), `"1"`, "$, byte 0: a number expected, not a string"},
		{"text", typ(abi.TypeText), `1`, "$, byte 0: a string expected, not a number"},
		{"bytes", typ(abi.TypeBytes), `[1]`, "$, byte 0: a base64url string expected, not an array"},
		{"standard base64", typ(abi.TypeBytes), `"a+/="`, "$, byte 0: base64url expected, in which '+' has no meaning; + is written - and / is written _"},
		{"base64 with a line end", typ(abi.TypeBytes), `"AQ\nID"`, `$, byte 0: base64url expected, in which '\n' has no meaning; + is written - and / is written _`},
		{"base64 padding", typ(abi.TypeBytes), `"AQI=="`, "$, byte 0: base64url with the wrong padding; it may be left out"},
		{"half a byte", typ(abi.TypeBytes), `"A"`, "$, byte 0: base64url that ends in the middle of a byte"},
		{"stray bits", typ(abi.TypeBytes), `"AR"`, "$, byte 0: base64url that ends in the middle of a byte"},
		{"null", typ(abi.TypeText), `null`, "$, byte 0: a string expected, not null"},
		{"list", list(nil), `{}`, "$, byte 0: an array expected, not an object"},
		{"list element", list(typ(abi.TypeInt)), `[1,2,true]`, "$[2], byte 5: an integer expected, not true"},
		{"map", mapOf(nil), `[]`, "$, byte 0: an object expected, not an array"},
		{"map element", mapOf(typ(abi.TypeInt)), `{"k":false}`, "$.k, byte 5: an integer expected, not false"},
		{"map duplicate", mapOf(typ(abi.TypeInt)), `{"k":1,"k":1}`, "$.k, byte 7: the name stands twice"},
		{"record", order, `"x"`, "$, byte 0: an object expected, not a string"},
		{"deep path", order, `{"id":"7","items":[{"sku":"a","by":1},{"sku":"b","by":"2"}]}`,
			"$.items[1].by, byte 54: an integer expected, not a string"},
		{"missing", order, `{"id":"7","items":[{"sku":"a"}]}`, "$.items[0].by, byte 19: the field is missing"},
		{"missing in an empty record", order, `{}`, "$.id, byte 0: the field is missing"},
		{"unknown, near", order, `{"id":"7","item":[]}`, `$.item, byte 10: no such field; did you mean "items"?`},
		{"unknown, other case", order, `{"ID":"7"}`, `$.ID, byte 1: no such field; did you mean "id"?`},
		{"unknown, far", order, `{"quantity":1}`,
			`$.quantity, byte 1: no such field; there are "id", "items", "note", "labels", "blob", "extra"`},
		{"unknown, no fields", record(), `{"a":1}`, "$.a, byte 1: no such field; there are none"},
		{"field twice", order, `{"id":"7","id":"7"}`, "$.id, byte 10: the name stands twice"},
		{"null for a field that must be", order, `{"id":null}`, "$.id, byte 6: a string expected, not null"},
		{"misspelled null of an optional field", order, `{"blob":nul}`, "$.blob, byte 8: a value expected; did you mean null?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := FromJSON([]byte(c.js), c.schema)
			if err == nil {
				t.Fatalf("accepted as %x", got)
			}
			if got := strings.TrimPrefix(err.Error(), "invalid JSON at "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !errors.Is(abi.AsError(err), abi.ErrInvalidArgument) {
				t.Errorf("%T of code %v", err, abi.CodeOf(err))
			}
		})
	}
}
