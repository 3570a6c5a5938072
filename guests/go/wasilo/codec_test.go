package wasilo

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

type Inner struct {
	A int8   `json:"a"`
	B string `json:"b,omitempty"`
}

type embedded struct {
	Inherited int `json:"inherited"`
	Shadowed  int `json:"shadowed"`
}

type label string

type tree struct {
	Name string `json:"name"`
	Kids []tree `json:"kids,omitempty"`
}

// everything has a field of each type that travels.
type everything struct {
	embedded
	Shadowed string            `json:"shadowed"`
	Bool     bool              `json:"bool"`
	Int      int               `json:"int"`
	Int16    int16             `json:"int16"`
	Int32    int32             `json:"int32"`
	Int64    int64             `json:"int64"`
	Uint     uint              `json:"uint"`
	Uint8    uint8             `json:"uint8"`
	Uint16   uint16            `json:"uint16"`
	Uint32   uint32            `json:"uint32"`
	Uint64   uint64            `json:"uint64"`
	Float32  float32           `json:"float32"`
	Float64  float64           `json:"float64"`
	String   label             `json:"string"`
	Bytes    []byte            `json:"bytes"`
	Array    [2]uint16         `json:"array"`
	Hash     [4]byte           `json:"hash"`
	List     []Inner           `json:"list"`
	Texts    map[label]string  `json:"texts"`
	Counts   map[string]int64  `json:"counts"`
	Inners   map[string]*Inner `json:"inners"`
	Any      any               `json:"any"`
	Ptr      *Inner            `json:"ptr"`
	Nil      *int              `json:"nil"`
	Time     time.Time         `json:"time"`
	Took     time.Duration     `json:"took"`
	Who      Identity          `json:"who"`
	Raw      Raw               `json:"raw"`
	Zero     time.Time         `json:"zero,omitzero"`
	Tree     tree              `json:"tree"`
	Unnamed  int
	Hidden   int `json:"-"`
	secret   int //lint:ignore U1000 unexported fields are left alone
}

func full() everything {
	return everything{
		embedded: embedded{Inherited: -3}, Shadowed: "outer", Bool: true, Int: math.MinInt, Int16: -300, Int32: 70000,
		Int64: math.MaxInt64, Uint: 1, Uint8: 255, Uint16: 65535, Uint32: math.MaxUint32, Uint64: math.MaxUint64, Float32: 1.5,
		Float64: math.Pi, String: "grüße", Bytes: []byte{0, 1}, Array: [2]uint16{1, 2}, Hash: [4]byte{9, 8, 7, 6},
		List: []Inner{{A: 1}, {A: -128, B: "b"}}, Texts: map[label]string{"x": "1", "a": "2"},
		Counts: map[string]int64{"n": -1}, Inners: map[string]*Inner{"i": {A: 5}, "none": nil},
		Any: map[string]any{"list": []any{int64(1), "two", nil, 3.5, true, []byte{4}}, "big": uint64(math.MaxUint64)},
		Ptr: &Inner{B: "p"}, Time: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), Took: time.Second, Who: ID("bank", "a/b"),
		Raw: Raw{0xd9, 0xd9, 0xf7, 0x01}, Tree: tree{Name: "root", Kids: []tree{{Name: "kid"}}}, Unnamed: 7,
	}
}

func TestEveryTypeTravels(t *testing.T) {
	want := full()
	raw, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode[everything](raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	again, err := Encode(got)
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("equal values are not equal bytes: %x, %x, %v", raw, again, err)
	}
	r := abi.NewReader(raw)
	if r.Skip(); r.Err() != nil || r.Len() != 0 {
		t.Errorf("not one item: %v, %d bytes left", r.Err(), r.Len())
	}
}

func TestEncoding(t *testing.T) {
	type opt struct {
		A int  `json:"a,omitempty"`
		B *int `json:"b,omitempty"`
	}
	for _, c := range []struct {
		name string
		enc  func() (Raw, error)
		want string
	}{
		{"none", func() (Raw, error) { return Encode(None{}) }, "a0"},
		{"record", func() (Raw, error) { return Encode(Inner{A: -1}) }, "a1616120"},
		{"omitted", func() (Raw, error) { return Encode(opt{}) }, "a0"},
		{"nil slice", func() (Raw, error) { return Encode([]string(nil)) }, "80"},
		{"nil bytes", func() (Raw, error) { return Encode([]byte(nil)) }, "40"},
		{"nil map", func() (Raw, error) { return Encode(map[string]int64(nil)) }, "a0"},
		{"nil reflected map", func() (Raw, error) { return Encode(map[label]bool(nil)) }, "a0"},
		{"nil pointer", func() (Raw, error) { return Encode((*Inner)(nil)) }, "f6"},
		{"nil any", func() (Raw, error) { return Encode[any](nil) }, "f6"},
		{"any of a struct", func() (Raw, error) { return Encode[any](Inner{A: 1}) }, "a1616101"},
		{"empty raw", func() (Raw, error) { return Encode(Raw{}) }, "f6"},
		{"sorted map", func() (Raw, error) { return Encode(map[string]string{"b": "", "a": ""}) }, "a2616160616260"},
		{"float", func() (Raw, error) { return Encode(1.5) }, "fb3ff8000000000000"},
		{"time", func() (Raw, error) { return Encode(time.Unix(0, 0).UTC()) }, "74" + hex.EncodeToString([]byte("1970-01-01T00:00:00Z"))},
		{"duration", func() (Raw, error) { return Encode(time.Microsecond) }, "1903e8"},
		{"text that is not UTF-8", func() (Raw, error) { return Encode("a\xff") }, "6461efbfbd"},
	} {
		got, err := c.enc()
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s: %x, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestDecodingIsStrictAndSaysWhere(t *testing.T) {
	item := func(s string) Raw {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type list struct {
		Items []Inner          `json:"items"`
		By    map[string]int64 `json:"by,omitempty"`
		Any   any              `json:"any,omitempty"`
	}
	dec := func(raw Raw) error { _, err := Decode[list](raw); return err }
	for _, c := range []struct{ name, raw, want string }{
		{"no payload", "", "items: missing; the type is [{a: int, b?: text}]"},
		{"null", "f6", "items: missing"},
		{"another type", "01", "a map expected, not an integer (byte 0)"},
		{"missing in a list", "a1 65 6974656d73 82 a1616101 a0", "items[1].a: missing; the type is int"},
		{"too large", "a1 65 6974656d73 81 a1 6161 18c8", "items[0].a: 200 does not fit int8"},
		{"text for a number", "a1 65 6974656d73 81 a1 6161 6161", "items[0].a: an integer expected, not text (byte 11)"},
		{"float for an integer", "a1 65 6974656d73 81 a1 6161 f93c00", "items[0].a: an integer expected, not a float"},
		{"twice", "a2 65 6974656d73 80 65 6974656d73 80", "items: the field stands twice"},
		{"key twice", "a2 65 6974656d73 80 62 6279 a2 616101 616102", `by["a"]: the key stands twice`},
		{"any key twice", "a2 65 6974656d73 80 63 616e79 a2 616101 616102", `any["a"]: the key stands twice`},
		{"any tag", "a2 65 6974656d73 80 63 616e79 c001", "any: tags and simple values are not read here"},
		{"cut off", "a1 65 6974656d73", "items: the input ends"},
		{"trailing", "a1 65 6974656d73 80 00", "1 bytes follow"},
		{"indefinite", "bf", "indefinite lengths"},
		{"huge list", "a1 65 6974656d73 9a ffffffff", "items: an array of 4294967295 items is longer than the input"},
	} {
		err := dec(item(c.raw))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
		if !errors.Is(err, abi.ErrInvalidArgument) {
			t.Errorf("%s: %v is no invalid_argument", c.name, err)
		}
	}
	for name, err := range map[string]error{
		"an actor is written KIND/IDENTITY": second(Decode[Identity](Raw{0x61, 'x'})),
		"fits float32 expected":             second(Decode[float32](Raw{0xfb, 0x7f, 0xe0, 0, 0, 0, 0, 0, 0})),
		"300 does not fit uint8":            second(Decode[uint8](Raw{0x19, 0x01, 0x2c})),
		"an unsigned integer":               second(Decode[uint](Raw{0x20})),
		"a list of 2 expected":              second(Decode[[2]int](Raw{0x81, 0})),
		"2 bytes expected, not 1":           second(Decode[[2]byte](Raw{0x41, 0})),
		"a time like":                       second(Decode[time.Time](Raw{0x61, 'x'})),
		"[1]: an integer":                   second(Decode[[]int](Raw{0x82, 0, 0x60})),
		`["a"]: an integer`:                 second(Decode[map[label]int](Raw{0xa1, 0x61, 'a', 0x60})),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q in it", err, name)
		}
	}
	for _, c := range []struct{ name, raw string }{
		{"unknown field", "a2 63 6e6577 82 0102 65 6974656d73 80"},
		{"key that is no text", "a2 01 02 65 6974656d73 80"},
		{"null for a list", "a1 65 6974656d73 f6"},
		{"wide integer", "a1 65 6974656d73 81 a1 6161 1b0000000000000001"},
	} {
		if err := dec(item(c.raw)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if v, err := Decode[None](nil); err != nil || v != (None{}) {
		t.Errorf("no payload is no None: %v", err)
	}
	if _, err := Decode[int](nil); err == nil || !strings.Contains(err.Error(), "the payload is empty") {
		t.Errorf("no payload for an int: %v", err)
	}
	if f, err := Decode[float64](Raw{0x03}); err != nil || f != 3 {
		t.Errorf("an integer for a float: %v, %v", f, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWhatCannotTravel(t *testing.T) {
	type one struct{ Same int }
	type other struct{ Same string }
	type twice struct {
		one
		other
	}
	for want, typ := range map[string]reflect.Type{
		"type chan int cannot travel":                        reflect.TypeFor[chan int](),
		"field F of struct { F func() }: type func() cannot": reflect.TypeFor[struct{ F func() }](),
		"the keys of a map are strings":                      reflect.TypeFor[map[int]string](),
		"a pointer to a pointer":                             reflect.TypeFor[**int](),
		"has no exported fields":                             reflect.TypeFor[struct{ a int }](),
		`two fields named "Same"`:                            reflect.TypeFor[twice](),
		`the option "string" is neither`: reflect.TypeFor[struct {
			A int `json:"a,string"`
		}](),
		"an embedded pointer": reflect.TypeFor[struct{ *Inner }](),
	} {
		if _, err := codecFor(typ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", typ, err, want)
		}
	}
	if _, err := Encode[any](make(chan int)); err == nil {
		t.Error("a channel in an any travels")
	}
	loop := []any{nil}
	loop[0] = loop
	if _, err := Encode(loop); err == nil || !strings.Contains(err.Error(), "contain itself") {
		t.Errorf("a value that contains itself: %v", err)
	}
	if _, err := Encode(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a year of five digits travels")
	}
	for zone, travels := range map[int]bool{24*3600 - 60: true, 60 - 24*3600: true, 24 * 3600: false, -24 * 3600: false} {
		if _, err := Encode(time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", zone))); (err == nil) != travels {
			t.Errorf("%d seconds from UTC: %v", zone, err)
		}
	}
	for s, travels := range map[string]bool{"+23:59": true, "-23:59": true, "+23:60": false, "+24:60": false, "-24:60": false} { // time.Parse reads all
		if _, err := Decode[time.Time](abi.AppendText(nil, "2006-01-02T15:04:05"+s)); (err == nil) != travels {
			t.Errorf("%s from UTC: %v", s, err)
		}
	}
}

// A few bytes must not become a lot of memory.
func TestDecodingIsBounded(t *testing.T) {
	type wide struct {
		A, B, C, D, E, F, G, H [16]*int
	}
	type optional struct {
		W *wide `json:"w,omitempty"`
		X wide  `json:"x,omitzero"`
	}
	payload := abi.AppendArray(nil, 1<<20)
	payload = append(payload, bytes.Repeat([]byte{0xa0}, 1<<20)...)
	if _, err := Decode[[]optional](payload); err == nil || !strings.Contains(err.Error(), "more than a payload of this length may hold") {
		t.Errorf("a megabyte became a gigabyte: %v", err)
	}
	if list, err := Decode[[]int64](append(abi.AppendArray(nil, 1000), make([]byte, 1000)...)); err != nil || len(list) != 1000 {
		t.Errorf("a list of 1000: %d, %v", len(list), err)
	}
	deep := append(bytes.Repeat([]byte{0x81}, 100), 0x01)
	if _, err := Decode[any](deep); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("100 lists inside one another: %v", err)
	}
	kid := []byte{0xa1, 0x64, 'n', 'a', 'm', 'e', 0x60}
	for range 100 {
		kid = append([]byte{0xa2, 0x64, 'n', 'a', 'm', 'e', 0x60, 0x64, 'k', 'i', 'd', 's', 0x81}, kid...)
	}
	if _, err := Decode[tree](kid); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("100 records inside one another: %v", err)
	}
}

func TestSchema(t *testing.T) {
	c, err := codecOf[everything]()
	if err != nil {
		t.Fatal(err)
	}
	const want = "{inherited: int, shadowed: text, bool: bool, int: int, int16: int, int32: int, int64: int, uint: uint, uint8: uint, " +
		"uint16: uint, uint32: uint, uint64: uint, float32: float, float64: float, string: text, bytes: bytes, array: [uint], " +
		"hash: bytes, list: [{a: int, b?: text}], texts: {text: text}, counts: {text: int}, inners: {text: {a: int, b?: text}?}, " +
		"any: any, ptr?: {a: int, b?: text}?, nil?: int?, time: text, took: int, who: text, raw: any, zero?: text, " +
		"tree: {name: text, kids?: [any]}, Unnamed: int}"
	if got := c.schema.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	raw, err := Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw))
	f.Add(bytes.Replace(raw, abi.AppendText(nil, full().Time.Format(time.RFC3339Nano)), abi.AppendText(nil, "2006-01-02T15:04:05+24:60"), 1))
	f.Add([]byte{0xa0})
	f.Add([]byte{0xa1, 0x63, 'a', 'n', 'y', 0x81, 0xf6})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whatever is accepted survives the way there and back.
		if v, err := Decode[everything](b); err == nil {
			again, err := Encode(v)
			if err != nil {
				t.Fatalf("%x: read, and not written: %v", b, err)
			}
			w, err := Decode[everything](again)
			if err != nil {
				t.Fatalf("%x: written, and not read: %v", again, err)
			}
			third, err := Encode(w)
			if err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%x became %x (%v)", again, third, err)
			}
		}
		if v, err := Decode[any](b); err == nil {
			if _, err := Encode(v); err != nil {
				t.Fatalf("%x: %v", b, err)
			}
		}
		if _, err := Decode[Raw](b); err == nil {
			r := abi.NewReader(b)
			if r.Skip(); r.Err() != nil {
				t.Fatalf("%x: %v", b, r.Err())
			}
		}
	})
}

func BenchmarkDecodeRecord(b *testing.B) {
	raw, err := Encode(Inner{A: 1, B: "some text"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode[Inner](raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeRecord(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(Inner{A: 1, B: "some text"}); err != nil {
			b.Fatal(err)
		}
	}
}
