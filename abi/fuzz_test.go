package abi

import (
	"bytes"
	"reflect"
	"testing"
)

// seed gives a fuzzer the vectors of a type, good and bad.
func seed(f *testing.F, typ string) {
	all := readVectors(f)
	for _, c := range all.Cases {
		if c.Type == typ {
			f.Add(unhex(f, c.Hex))
		}
	}
	for _, m := range all.Malformed {
		if m.Type == typ {
			f.Add(unhex(f, m.Hex))
		}
	}
}

// stable holds of input that is accepted that its encoding is read back as the same, and written the same again.
func stable[V any](t *testing.T, in []byte, decode func([]byte) (V, error), encode func([]byte, V) []byte) {
	v, err := decode(in)
	if err != nil {
		if CodeOf(err) != ErrInvalidArgument && CodeOf(err) != ErrUnsupported {
			t.Fatalf("%x: %v", in, err)
		}
		return
	}
	b := encode(nil, v)
	again, err := decode(b)
	if err != nil {
		t.Fatalf("%x is read as %+v and written as %x: %v", in, v, b, err)
	}
	if !reflect.DeepEqual(v, again) || !bytes.Equal(b, encode(nil, again)) {
		t.Fatalf("%x is read as\n%+v, then as\n%+v", in, v, again)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	seed(f, "event")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Event, error) {
			e := &Event{}
			err := DecodeEvent(b, e)
			return e, err
		}, func(b []byte, e *Event) []byte {
			b = AppendEvent(b, e)
			if len(b) > e.SizeBound() {
				t.Fatalf("%d bytes, the bound is %d", len(b), e.SizeBound())
			}
			return b
		})
	})
}

func FuzzDecodeOutput(f *testing.F) {
	seed(f, "output")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Output, error) {
			o := &Output{}
			err := DecodeOutput(b, o)
			return o, err
		}, AppendOutput)
	})
}

func FuzzDecodeResult(f *testing.F) {
	seed(f, "result")
	seed(f, "output")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, DecodeResult, func(b []byte, r Result) []byte {
			b = AppendResult(b, r)
			if len(b) > ResultSize(r) {
				t.Fatalf("%d bytes, the bound is %d", len(b), ResultSize(r))
			}
			return b
		})
	})
}

func FuzzDecodeRequest(f *testing.F) {
	seed(f, "request")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Request, error) {
			q := &Request{}
			err := DecodeRequest(b, q)
			return q, err
		}, AppendRequest)
	})
}

func FuzzDecodeEnvelope(f *testing.F) {
	seed(f, "envelope")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Envelope, error) {
			v := &Envelope{}
			err := DecodeEnvelope(b, v, vectorNow)
			return v, err
		}, func(b []byte, v *Envelope) []byte { return AppendEnvelope(b, v, vectorNow) })
	})
}

func FuzzDecodeDescription(f *testing.F) {
	seed(f, "description")
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := DecodeDescription(in)
		if err == nil && len(AppendDescription(nil, d)) > MaxDescription {
			return // what a guest left out makes it too long
		}
		stable(t, in, DecodeDescription, AppendDescription)
		if err == nil {
			for i := range d.Kinds {
				k := &d.Kinds[i]
				if CheckKind(k.Name) != nil || len(k.Events) == 0 {
					t.Fatalf("%+v", k)
				}
				for j := range k.Methods {
					if m, ok := k.Method(k.Methods[j].Name); !ok || m != &k.Methods[j] {
						t.Fatalf("the method %q is not found", k.Methods[j].Name)
					}
					_ = k.Methods[j].Params.String()
				}
			}
		}
	})
}

func FuzzDecodeError(f *testing.F) {
	seed(f, "error")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Error, error) {
			r := NewReader(b)
			e := r.Error()
			r.End()
			return e, r.Err()
		}, AppendError)
	})
}

func FuzzDecodeSchema(f *testing.F) {
	seed(f, "schema")
	f.Fuzz(func(t *testing.T, in []byte) {
		stable(t, in, func(b []byte) (*Schema, error) {
			r := NewReader(b)
			s := r.Schema()
			r.End()
			return s, r.Err()
		}, AppendSchema)
	})
}

func FuzzReaderItem(f *testing.F) {
	for _, typ := range []string{"event", "description", "schema", "error"} {
		seed(f, typ)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(in)
		item := r.Item()
		if err := r.Err(); err != nil {
			if at := err.(*DecodeError).Offset; at < 0 || at > len(in) || item != nil {
				t.Fatalf("%x, %v", item, err)
			}
			return
		}
		if len(item) == 0 || !bytes.HasPrefix(in, item) || r.Offset() != len(item) {
			t.Fatalf("%x of %x", item, in)
		}
		again := NewReader(item)
		if again.Skip(); again.Err() != nil || again.Len() != 0 {
			t.Fatalf("%x: %v", item, again.Err())
		}
		// Typed reads of what is an item never fail for its form: the bytes in the order of their own say what to read.
		typed := NewReader(item)
		for i := 0; typed.Len() > 0 && typed.Err() == nil; i++ {
			before := typed.Offset()
			c, _ := typed.Peek()
			switch c >> 5 {
			case majorUint:
				typed.Uint()
			case majorBytes:
				typed.Bytes()
			case majorText:
				typed.Text()
			case majorArray:
				typed.Array()
			case majorMap:
				typed.Map()
			default:
				typed.Skip()
			}
			if typed.Err() == nil && typed.Offset() <= before {
				t.Fatalf("%x: no step at byte %d", item, before)
			}
		}
		if typed.Err() != nil {
			t.Fatalf("%x: %v", item, typed.Err())
		}
	})
}
