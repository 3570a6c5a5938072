package abi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "fill in what is empty in testdata/vectors.json; what stands there is never changed")

const vectorsFile = "testdata/vectors.json"

// vectors is testdata/vectors.json: the wire as bytes, for the host and for SDKs in any language.
type vectors struct {
	About     []string    `json:"about"`
	ABI       [2]int      `json:"abi"`
	Cases     []vector    `json:"cases"`
	Malformed []malformed `json:"malformed"`
}

type vector struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Hex  string `json:"hex"`
	// Canonical is what an encoder of ours makes of the decoded fields, where that is not Hex.
	Canonical string          `json:"canonical,omitempty"`
	JSON      json.RawMessage `json:"json"`
}

type malformed struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Hex    string `json:"hex"`
	Offset int    `json:"offset"`
	Reason string `json:"reason"`
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", vectorsFile, err)
	}
	return v
}

func (v *vectors) find(t testing.TB, name string) []byte {
	t.Helper()
	i := slices.IndexFunc(v.Cases, func(c vector) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("%s has no case %q", vectorsFile, name)
	}
	return unhex(t, v.Cases[i].Hex)
}

// write keeps the file readable: a case a line.
func (v *vectors) write(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	line := func(v any) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		return string(bytes.TrimSpace(b.Bytes()))
	}
	out.WriteString("{\n\"about\": [\n")
	for i, s := range v.About {
		out.WriteString(line(s) + comma(i, len(v.About)))
	}
	out.WriteString("],\n\"abi\": " + line(v.ABI) + ",\n\"cases\": [\n")
	for i, c := range v.Cases {
		out.WriteString(line(c) + comma(i, len(v.Cases)))
	}
	out.WriteString("],\n\"malformed\": [\n")
	for i, c := range v.Malformed {
		out.WriteString(line(c) + comma(i, len(v.Malformed)))
	}
	out.WriteString("]\n}\n")
	if err := os.WriteFile(vectorsFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func comma(i, n int) string {
	if i == n-1 {
		return "\n"
	}
	return ",\n"
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

// vectorNow is the time at which envelopes are encoded and decoded here.
var vectorNow = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// codec is one type of the wire: bytes to its readable form, and back.
type codec struct {
	view   func(b []byte) (any, error)
	encode func(js []byte) ([]byte, error)
}

var codecs = map[string]codec{
	"identity": {
		func(b []byte) (any, error) {
			id, err := ParseIdentity(string(b))
			return identityView{id.Kind(), id.ID()}, err
		},
		encoder(func(v identityView) []byte { return []byte(v.Kind + "/" + v.Identity) }),
	},
	"error": {
		func(b []byte) (any, error) {
			r := NewReader(b)
			e := r.Error()
			r.End()
			return viewError(e), r.Err()
		},
		encoder(func(v *errorView) []byte { return AppendError(nil, v.value()) }),
	},
	"schema": {
		func(b []byte) (any, error) {
			r := NewReader(b)
			s := r.Schema()
			r.End()
			return viewSchema(s), r.Err()
		},
		encoder(func(v any) []byte { return AppendSchema(nil, schemaValue(v)) }),
	},
	"event": {
		func(b []byte) (any, error) {
			var e Event
			err := DecodeEvent(b, &e)
			return viewEvent(&e), err
		},
		encoder(func(v eventView) []byte { return AppendEvent(nil, v.value()) }),
	},
	"output": {
		func(b []byte) (any, error) {
			var o Output
			err := DecodeOutput(b, &o)
			return viewOutput(&o), err
		},
		encoder(func(v outputView) []byte { return AppendOutput(nil, v.value()) }),
	},
	"result": {
		func(b []byte) (any, error) {
			r, err := DecodeResult(b)
			return resultView{viewBytes(r.Payload), viewError(r.Err)}, err
		},
		encoder(func(v resultView) []byte { return AppendResult(nil, Result{v.Payload.value(), v.Error.value()}) }),
	},
	"request": {
		func(b []byte) (any, error) {
			var q Request
			err := DecodeRequest(b, &q)
			return viewRequest(&q), err
		},
		encoder(func(v requestView) []byte { return AppendRequest(nil, v.value()) }),
	},
	"envelope": {
		func(b []byte) (any, error) {
			var e Envelope
			err := DecodeEnvelope(b, &e, vectorNow)
			return viewEnvelope(&e), err
		},
		encoder(func(v envelopeView) []byte { return AppendEnvelope(nil, v.value(), vectorNow) }),
	},
	"description": {
		func(b []byte) (any, error) {
			d, err := DecodeDescription(b)
			if err != nil {
				return nil, err
			}
			return viewDescription(d), nil
		},
		encoder(func(v descriptionView) []byte { return AppendDescription(nil, v.value()) }),
	},
}

func encoder[V any](append func(V) []byte) func([]byte) ([]byte, error) {
	return func(js []byte) ([]byte, error) {
		var v V
		d := json.NewDecoder(bytes.NewReader(js))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		return append(v), nil
	}
}

func TestVectors(t *testing.T) {
	all := readVectors(t)
	if all.ABI != [2]int{Major, Minor} {
		t.Errorf("the vectors are for ABI %v", all.ABI)
	}
	seen := map[string]bool{}
	for i := range all.Cases {
		c := &all.Cases[i]
		if seen[c.Name] {
			t.Errorf("two cases are called %q", c.Name)
		}
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) { checkVector(t, c) })
	}
	for i := range all.Malformed {
		m := &all.Malformed[i]
		if seen[m.Name] {
			t.Errorf("two cases are called %q", m.Name)
		}
		seen[m.Name] = true
		t.Run(m.Name, func(t *testing.T) { checkMalformed(t, m) })
	}
	if *update && !t.Failed() {
		all.write(t)
	}
}

func checkVector(t *testing.T, c *vector) {
	codec, ok := codecs[c.Type]
	if !ok {
		t.Fatalf("unknown type %q", c.Type)
	}
	encoded, err := codec.encode(c.JSON)
	if err != nil {
		t.Fatal(err)
	}
	got := hex.EncodeToString(encoded)
	if *update && c.Hex == "" {
		c.Hex = got
	}
	if *update && c.Canonical == "" && c.Hex != got {
		c.Canonical = got
	}
	want := c.Canonical
	if want == "" {
		want = c.Hex
	}
	if got != want {
		t.Errorf("encoded as\n%s, want\n%s", got, want)
	}
	for _, h := range []string{c.Hex, want} {
		decoded, err := codec.view(unhex(t, h))
		if err != nil {
			t.Fatalf("%s: %v", h, err)
		}
		js, err := json.Marshal(decoded)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := normal(t, js), normal(t, c.JSON); a != b {
			t.Errorf("%s is decoded as\n%s, want\n%s", h, a, b)
		}
	}
}

func checkMalformed(t *testing.T, m *malformed) {
	codec, ok := codecs[m.Type]
	if !ok {
		t.Fatalf("unknown type %q", m.Type)
	}
	v, err := codec.view(unhex(t, m.Hex))
	if err == nil {
		t.Fatalf("accepted as %+v", v)
	}
	offset, reason := 0, err.Error()
	var decode *DecodeError
	var identity *IdentityError
	switch {
	case errors.As(err, &decode):
		offset, reason = decode.Offset, decode.Reason
	case errors.As(err, &identity):
		reason = identity.Reason.Error()
	default:
		t.Errorf("refused with a %T", err)
	}
	if *update && m.Reason == "" {
		m.Offset, m.Reason = offset, reason
	}
	if offset != m.Offset || reason != m.Reason {
		t.Errorf("refused at byte %d: %s\nwant at byte %d: %s", offset, reason, m.Offset, m.Reason)
	}
	if CodeOf(err) != ErrInvalidArgument {
		t.Errorf("refused with the code %v", CodeOf(err))
	}
}

// normal orders the keys of JSON.
func normal(t testing.TB, js []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(js))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
