package wasilo

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// Raw is one CBOR item, kept as it is: decoded later with [Decode], or passed on. An empty Raw travels as null. Whoever
// fills a Raw by hand vouches for it.
type Raw []byte

// codec is the plan for one Go type: made once by reflection, then followed without it (maps of uncommon types aside).
// Both functions get a pointer to a value of the type; they neither keep it nor what they read from.
type codec struct {
	typ    reflect.Type
	schema *abi.Schema // nil: any
	enc    func(e *encoder, p unsafe.Pointer)
	dec    func(d *decoder, p unsafe.Pointer)
	empty  func(p unsafe.Pointer) bool // what omitempty leaves out; nil: nothing
	record bool                        // a struct: no payload at all reads as one without fields
}

// codecs holds the finished plans, reflect.Type to *codec. A plan is a pure function of its type.
var codecs sync.Map

// codecFor returns the plan for t, or an error that names the part of t that cannot travel.
func codecFor(t reflect.Type) (*codec, error) {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec), nil
	}
	comp := compiler{}
	c, err := comp.compile(t)
	if err != nil {
		return nil, err
	}
	for t, c := range comp { // only whole plans are shared, so nobody sees one that is half made
		codecs.LoadOrStore(t, c)
	}
	return c, nil
}

// codecOf returns the plan for T.
func codecOf[T any]() (*codec, error) { return codecFor(reflect.TypeFor[T]()) }

// Encode returns v in CBOR, as it would travel. It fails if v holds what cannot travel, such as a channel in an any.
func Encode[T any](v T) (Raw, error) {
	c, err := codecOf[T]()
	if err != nil {
		return nil, err
	}
	e := encoder{}
	c.enc(&e, unsafe.Pointer(&v))
	return e.b, e.err
}

// Decode reads one CBOR item as a T. The error is an invalid_argument that says where, and what was expected there.
func Decode[T any](raw Raw) (T, error) {
	var v T
	c, err := codecOf[T]()
	if err != nil {
		return v, err
	}
	d := decoder{}
	if err := d.run(c, raw, unsafe.Pointer(&v)); err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// encoder appends to b. The first failure sticks.
type encoder struct {
	b     []byte
	depth int
	err   error
}

func (e *encoder) fail(reason string) {
	if e.err == nil {
		e.err = errors.New(reason)
	}
}

// enter counts the nesting of lists, maps and records, which is what ends a value that contains itself.
func (e *encoder) enter() bool {
	if e.depth++; e.depth > abi.MaxDepth {
		e.fail("the value is nested deeper than " + strconv.Itoa(abi.MaxDepth) + ": does it contain itself?")
		return false
	}
	return e.err == nil
}

func (e *encoder) text(s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD") // as encoding/json does: CBOR text is UTF-8
	}
	e.b = abi.AppendText(e.b, s)
}

// decoder reads one payload. While a failure unwinds, each level puts its own step before path.
type decoder struct {
	r      abi.Reader
	depth  int
	budget int // bytes that lists and maps may still allocate
	path   string
}

func (d *decoder) failed() bool { return d.r.Err() != nil }

func (d *decoder) step(s string) { d.path = s + d.path }

func (d *decoder) enter() bool {
	if d.depth++; d.depth > abi.MaxDepth {
		d.r.Fail("nested deeper than " + strconv.Itoa(abi.MaxDepth))
		return false
	}
	return !d.failed()
}

// spend takes n items of size bytes off the budget: a short payload must not become a huge list of empty records.
func (d *decoder) spend(n int, size uintptr) bool {
	need := uint64(n) * uint64(size+1)
	if need > uint64(d.budget) {
		d.r.Fail(strconv.Itoa(n) + " items are more than a payload of this length may hold")
		return false
	}
	d.budget -= int(need)
	return true
}

// emptyRecord stands for no payload where a record is read: a call without arguments.
var emptyRecord = []byte{0xa0}

// run reads payload, exactly one item, into the value at p.
func (d *decoder) run(c *codec, payload []byte, p unsafe.Pointer) error {
	if c.record && (len(payload) == 0 || len(payload) == 1 && payload[0] == 0xf6) {
		payload = emptyRecord
	}
	*d = decoder{r: abi.NewReader(payload), budget: 1<<20 + 24*len(payload)}
	if len(payload) == 0 {
		d.r.Fail("the payload is empty; the type is " + c.schema.String())
	} else {
		c.dec(d, p)
		d.r.End()
	}
	if !d.failed() {
		return nil
	}
	bad := d.r.Err().(*abi.DecodeError)
	where := strings.TrimPrefix(d.path, ".")
	if where != "" {
		where += ": "
	}
	return abi.NewError(abi.ErrInvalidArgument, where+bad.Reason+" (byte "+strconv.Itoa(bad.Offset)+")")
}

// compiler holds the plans of one compilation, unfinished ones too: that is how a type may refer to itself.
type compiler map[reflect.Type]*codec

var (
	rawType      = reflect.TypeFor[Raw]()
	anyType      = reflect.TypeFor[any]()
	timeType     = reflect.TypeFor[time.Time]()
	identityType = reflect.TypeFor[abi.Identity]()
)

func (comp compiler) compile(t reflect.Type) (*codec, error) {
	if c, ok := comp[t]; ok {
		return c, nil
	}
	if c, ok := codecs.Load(t); ok {
		return c.(*codec), nil
	}
	c := &codec{typ: t}
	comp[t] = c
	if err := comp.fill(c); err != nil {
		return nil, err
	}
	return c, nil
}

func (comp compiler) fill(c *codec) error {
	switch c.typ {
	case rawType:
		c.enc, c.dec, c.empty = encRaw, decRaw, isEmptySlice
		return nil
	case anyType:
		c.enc, c.dec = encAny, decAny
		c.empty = func(p unsafe.Pointer) bool { return *(*any)(p) == nil }
		return nil
	case timeType:
		c.schema, c.enc, c.dec = &abi.Schema{Type: abi.TypeText}, encTime, decTime
		return nil
	case identityType:
		c.schema, c.enc, c.dec = &abi.Schema{Type: abi.TypeText}, encIdentity, decIdentity
		c.empty = func(p unsafe.Pointer) bool { return (*abi.Identity)(p).IsZero() }
		return nil
	}
	if scalar(c) {
		return nil
	}
	switch c.typ.Kind() {
	case reflect.Struct:
		return comp.structure(c)
	case reflect.Pointer:
		return comp.pointer(c)
	case reflect.Slice:
		return comp.slice(c)
	case reflect.Array:
		return comp.array(c)
	case reflect.Map:
		return comp.mapping(c)
	}
	return errors.New("type " + c.typ.String() + " cannot travel in a message")
}

func encRaw(e *encoder, p unsafe.Pointer) {
	if raw := *(*[]byte)(p); len(raw) > 0 {
		e.b = append(e.b, raw...)
		return
	}
	e.b = abi.AppendNull(e.b)
}

func decRaw(d *decoder, p unsafe.Pointer) {
	if item := d.r.Item(); item != nil {
		*(*[]byte)(p) = append(make([]byte, 0, len(item)), item...)
	}
}

func isEmptySlice(p unsafe.Pointer) bool { return len(*(*[]byte)(p)) == 0 } // any slice starts with pointer and length

// encTime writes RFC 3339 text with nanoseconds, as encoding/json does.
func encTime(e *encoder, p unsafe.Pointer) {
	t := (*time.Time)(p)
	if y := t.Year(); y < 0 || y > 9999 {
		e.fail("the year " + strconv.Itoa(y) + " does not fit RFC 3339")
		return
	}
	if farOff(*t) {
		e.fail("a time zone a day or more from UTC does not fit RFC 3339")
		return
	}
	e.b = abi.AppendText(e.b, t.Format(time.RFC3339Nano))
}

func decTime(d *decoder, p unsafe.Pointer) {
	s := d.r.Text()
	if d.failed() {
		return
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || farOff(t) {
		d.r.Fail("a time like 2006-01-02T15:04:05Z expected")
		return
	}
	*(*time.Time)(p) = t
}

// farOff reports whether t's zone is a day or more from UTC. time.Parse reads +24:60, which is then written as +25:00 and not read any more.
func farOff(t time.Time) bool {
	_, offset := t.Zone()
	return offset <= -24*3600 || offset >= 24*3600
}

func encIdentity(e *encoder, p unsafe.Pointer) {
	id := *(*abi.Identity)(p)
	e.b = abi.AppendText(e.b, id.String())
}

func decIdentity(d *decoder, p unsafe.Pointer) {
	s := d.r.Text()
	if d.failed() || s == "" {
		return
	}
	id, err := abi.ParseIdentity(s)
	if err != nil {
		d.r.Fail(err.Error())
		return
	}
	*(*abi.Identity)(p) = id
}
