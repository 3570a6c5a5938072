package cbor

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

// TestTypedRoundTrip draws a schema and a value that keeps to it, writes that as JSON, and expects the very same value
// back through CBOR.
func TestTypedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchema(t, 3)
		v := drawValue(t, s)
		js, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		cb, err := FromJSON(js, s)
		if err != nil {
			t.Fatalf("%s as %v: %v", js, s, err)
		}
		shown, err := ToJSON(cb, s)
		if err != nil {
			t.Fatal(err)
		}
		if want := canonical(t, js); canonical(t, shown) != want {
			t.Fatalf("%v:\nwent in  %s\ncame out %s", s, want, shown)
		}
		// Whatever stands in a float's place is a float.
		if again, err := FromJSON(shown, s); err != nil || string(again) != string(cb) {
			t.Fatalf("%s became %x, then %x, %v", js, cb, again, err)
		}
	})
}

// canonical sorts keys and keeps digits.
func canonical(t *rapid.T, js []byte) string {
	var v any
	if err := json.Unmarshal(js, &v); err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func drawSchema(t *rapid.T, depth int) *abi.Schema {
	last := abi.TypeRecord
	if depth == 0 {
		last = abi.TypeBytes
	}
	typ := abi.SchemaType(rapid.IntRange(int(abi.TypeBool), int(last)).Draw(t, "type"))
	s := &abi.Schema{Type: typ, Nullable: rapid.Bool().Draw(t, "nullable")}
	switch s.Type {
	case abi.TypeList, abi.TypeMap:
		s.Elem = drawSchema(t, depth-1)
	case abi.TypeRecord:
		for _, name := range rapid.SliceOfNDistinct(rapid.String(), 0, 6, rapid.ID).Draw(t, "fields") {
			s.Fields = append(s.Fields, abi.Field{Name: name, Schema: drawSchema(t, depth-1), Optional: rapid.Bool().Draw(t, "optional")})
		}
	}
	return s
}

func drawValue(t *rapid.T, s *abi.Schema) any {
	if s.Nullable && rapid.Bool().Draw(t, "null") {
		return nil
	}
	switch s.Type {
	case abi.TypeBool:
		return rapid.Bool().Draw(t, "bool")
	case abi.TypeInt:
		return rapid.Int64().Draw(t, "int")
	case abi.TypeUint:
		return rapid.Uint64().Draw(t, "uint")
	case abi.TypeFloat:
		f := rapid.Float64().Draw(t, "float")
		if math.IsInf(f, 0) || math.IsNaN(f) {
			f = 0
		}
		return f
	case abi.TypeText:
		return rapid.String().Draw(t, "text")
	case abi.TypeBytes:
		return base64.RawURLEncoding.EncodeToString(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	case abi.TypeList:
		out := make([]any, rapid.IntRange(0, 30).Draw(t, "len"))
		for i := range out {
			out[i] = drawValue(t, s.Elem)
		}
		return out
	case abi.TypeMap:
		out := map[string]any{}
		for _, k := range rapid.SliceOfN(rapid.String(), 0, 30).Draw(t, "keys") {
			out[k] = drawValue(t, s.Elem)
		}
		return out
	}
	out := map[string]any{}
	for _, f := range s.Fields {
		if !f.Optional || rapid.Bool().Draw(t, "present") {
			out[f.Name] = drawValue(t, f.Schema)
		}
	}
	return out
}

// TestIntegersAreExact holds that no integer of 64 bits passes through a float.
func TestIntegersAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		literal := strconv.FormatInt(rapid.Int64().Draw(t, "int64"), 10)
		if rapid.Bool().Draw(t, "unsigned") {
			literal = strconv.FormatUint(rapid.Uint64().Draw(t, "uint64"), 10)
		}
		spelled := literal
		switch rapid.IntRange(0, 3).Draw(t, "spelling") {
		case 1:
			spelled += ".000"
		case 2:
			spelled += ".0000e0"
		case 3:
			if literal != "0" {
				spelled += "000e-3"
			}
		}
		cb, err := FromJSON([]byte(spelled), nil)
		if err != nil {
			t.Fatal(err)
		}
		if shown, err := ToJSON(cb, nil); err != nil || string(shown) != literal {
			t.Fatalf("%s became %s, %v", spelled, shown, err)
		}
	})
}
