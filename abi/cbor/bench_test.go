package cbor

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// benchInputs are a counter's parameters, a small order, and a hundred orders.
func benchInputs() []struct {
	name   string
	js     string
	schema *abi.Schema
} {
	const one = `{"id":"order-4711","items":[{"sku":"A-1","by":2,"price":9.5},{"sku":"B-27","by":1,"price":120.25}],` +
		`"note":"leave it at the door, please","labels":{"express":1,"gift":0},"blob":"3q2-7wAB"}`
	var many strings.Builder
	for i := range 100 {
		many.WriteString("," + strings.Replace(one, "4711", strconv.Itoa(i), 1))
	}
	return []struct {
		name   string
		js     string
		schema *abi.Schema
	}{
		{"counter", `{"by":5}`, record(may("by", typ(abi.TypeInt)))},
		{"order", one, order},
		{"orders", "[" + many.String()[1:] + "]", list(order)},
	}
}

func BenchmarkFromJSON(b *testing.B) {
	for _, in := range benchInputs() {
		js := []byte(in.js)
		b.Run(in.name+"/schema", func(b *testing.B) { benchFromJSON(b, js, in.schema) })
		b.Run(in.name+"/none", func(b *testing.B) { benchFromJSON(b, js, nil) })
		b.Run(in.name+"/reflection", func(b *testing.B) { // what it stands in for
			b.SetBytes(int64(len(js)))
			b.ReportAllocs()
			for b.Loop() {
				var v any
				if err := json.Unmarshal(js, &v); err != nil {
					b.Fatal(err)
				}
				if _, err := Marshal(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchFromJSON(b *testing.B, js []byte, s *abi.Schema) {
	b.SetBytes(int64(len(js)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromJSON(js, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToJSON(b *testing.B) {
	for _, in := range benchInputs() {
		cb, err := FromJSON([]byte(in.js), in.schema)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(in.name, func(b *testing.B) {
			b.SetBytes(int64(len(cb)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ToJSON(cb, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(in.name+"/reflection", func(b *testing.B) {
			b.SetBytes(int64(len(cb)))
			b.ReportAllocs()
			for b.Loop() {
				var v any
				if err := Unmarshal(cb, &v); err != nil {
					b.Fatal(err)
				}
				if _, err := json.Marshal(stringKeys(v)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k.(string)] = stringKeys(e)
		}
		return out
	case []any:
		for i := range v {
			v[i] = stringKeys(v[i])
		}
	}
	return v
}

func BenchmarkWellformed(b *testing.B) {
	for _, in := range benchInputs() {
		cb, err := FromJSON([]byte(in.js), in.schema)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(in.name, func(b *testing.B) {
			b.SetBytes(int64(len(cb)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Wellformed(cb); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(in.name+"/fxamacker", func(b *testing.B) {
			b.SetBytes(int64(len(cb)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decMode.Wellformed(cb); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
