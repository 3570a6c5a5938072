package wasilo

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// maxFields bounds the fields of one record, so that those seen fit a small array.
const maxFields = 256

// record is the plan of a struct: a map with text keys, in the order of declaration, embedded structs spread out.
type record struct {
	fields   []field
	required int  // how many must be there
	optional bool // some field may be left out
}

type field struct {
	name     string
	key      []byte // the name, encoded
	off      uintptr
	c        *codec
	isInt64  bool                        // read and written in place: an indirect call costs more than the number
	omit     func(p unsafe.Pointer) bool // nil: always written
	required bool
}

func (comp compiler) structure(c *codec) error {
	found, err := spread(c.typ)
	if err != nil {
		return err
	}
	if len(found) == 0 && c.typ.NumField() > 0 {
		return errors.New("type " + c.typ.String() + " has no exported fields: nothing of it would travel")
	}
	if len(found) > maxFields {
		return errors.New("type " + c.typ.String() + " has more than " + strconv.Itoa(maxFields) + " fields")
	}
	rec := &record{}
	schema := &abi.Schema{Type: abi.TypeRecord}
	for _, f := range found {
		fc, err := comp.compile(f.typ)
		if err != nil {
			return badField(c.typ, f.goName, err.Error())
		}
		g := field{name: f.name, key: abi.AppendText(nil, f.name), off: f.off, c: fc, isInt64: f.typ.Kind() == reflect.Int64}
		if f.omitEmpty {
			g.omit = fc.empty
		}
		if f.omitZero {
			g.omit = zeroOf(f.typ)
		}
		rec.optional = rec.optional || g.omit != nil
		mayLack := f.omitEmpty || f.omitZero || f.typ.Kind() == reflect.Pointer
		if g.required = !mayLack; g.required {
			rec.required++
		}
		rec.fields = append(rec.fields, g)
		schema.Fields = append(schema.Fields, abi.Field{Name: f.name, Schema: fc.schema, Optional: mayLack})
	}
	c.record, c.schema, c.enc, c.dec = true, schema, rec.enc, rec.dec
	return nil
}

func (rec *record) enc(e *encoder, p unsafe.Pointer) {
	if !e.enter() {
		return
	}
	n := len(rec.fields)
	if rec.optional {
		for i := range rec.fields {
			if f := &rec.fields[i]; f.omit != nil && f.omit(unsafe.Add(p, f.off)) {
				n--
			}
		}
	}
	e.b = abi.AppendMap(e.b, n)
	for i := range rec.fields {
		f := &rec.fields[i]
		at := unsafe.Add(p, f.off)
		if f.omit != nil && f.omit(at) {
			continue
		}
		e.b = append(e.b, f.key...)
		if f.isInt64 {
			e.b = abi.AppendInt(e.b, *(*int64)(at))
			continue
		}
		f.c.enc(e, at)
	}
	e.depth--
}

// dec reads a map. Keys that the struct does not know are skipped, so that a newer caller may say more; a key given
// twice, a missing required field and a wrong type are refused.
func (rec *record) dec(d *decoder, p unsafe.Pointer) {
	if !d.enter() {
		return
	}
	var seen [maxFields / 64]uint64
	next, missing := 0, rec.required
	for n := d.r.Map(); n > 0; n-- {
		i := next
		rest := d.r.Rest()
		if i < len(rec.fields) && bytes.HasPrefix(rest, rec.fields[i].key) { // mostly callers keep the order
			d.r.Advance(len(rec.fields[i].key))
		} else if i = rec.key(d, next); i < 0 {
			if d.failed() {
				return
			}
			continue
		}
		f := &rec.fields[i]
		if bit := uint64(1) << (i % 64); seen[i/64]&bit != 0 {
			d.r.Fail("the field stands twice")
		} else {
			seen[i/64] |= bit
		}
		at := unsafe.Add(p, f.off)
		if rest := d.r.Rest(); f.isInt64 && len(rest) > 0 && rest[0] < 24 {
			*(*int64)(at) = int64(rest[0])
			d.r.Advance(1)
		} else {
			f.c.dec(d, at)
		}
		if d.failed() {
			d.step("." + f.name)
			return
		}
		if f.required {
			missing--
		}
		next = i + 1
	}
	for i := 0; missing > 0 && !d.failed(); i++ {
		if f := &rec.fields[i]; f.required && seen[i/64]&(1<<(i%64)) == 0 {
			d.r.Fail("missing; the type is " + f.c.schema.String())
			d.step("." + f.name)
		}
	}
	d.depth--
}

// key reads a key and returns its field, or -1 after it has skipped a pair that is none, or failed.
func (rec *record) key(d *decoder, next int) int {
	i := -1
	if c, ok := d.r.Peek(); ok && c>>5 != 3 {
		d.r.Skip()
	} else {
		i = rec.find(d.r.TextBytes(), next)
	}
	if i < 0 {
		d.r.Skip()
	}
	return i
}

// find looks for a field by name, from where the last one was found.
func (rec *record) find(name []byte, next int) int {
	for i := next; i < len(rec.fields); i++ {
		if rec.fields[i].name == string(name) {
			return i
		}
	}
	for i := 0; i < next; i++ {
		if rec.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

// leaf is a field that travels, found at some depth of embedding.
type leaf struct {
	name, goName string
	typ          reflect.Type
	off          uintptr
	depth        int
	omitEmpty    bool
	omitZero     bool
}

// spread lists the fields of t that travel, those of embedded structs in their place. An outer field hides one of the
// same name further in, as in Go; two at the same depth are refused rather than both dropped.
func spread(t reflect.Type) ([]leaf, error) {
	var all []leaf
	if err := walk(t, 0, 0, &all); err != nil {
		return nil, err
	}
	least := map[string]int{}
	for _, f := range all {
		if depth, ok := least[f.name]; !ok || f.depth < depth {
			least[f.name] = f.depth
		}
	}
	kept := all[:0]
	taken := map[string]bool{}
	for _, f := range all {
		if f.depth > least[f.name] {
			continue
		}
		if taken[f.name] {
			return nil, errors.New("type " + t.String() + " has two fields named " + strconv.Quote(f.name))
		}
		taken[f.name] = true
		kept = append(kept, f)
	}
	return kept, nil
}

func walk(t reflect.Type, off uintptr, depth int, all *[]leaf) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct && sf.Type != timeType && sf.Type != identityType {
			if err := walk(sf.Type, off+sf.Offset, depth+1, all); err != nil {
				return err
			}
			continue
		}
		if sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Pointer && sf.Type.Elem().Kind() == reflect.Struct {
			return badField(t, sf.Name, "an embedded pointer; embed the struct, or give the field a json name")
		}
		if !sf.IsExported() {
			continue
		}
		f := leaf{name: name, goName: sf.Name, typ: sf.Type, off: off + sf.Offset, depth: depth}
		if f.name == "" {
			f.name = sf.Name
		}
		if !utf8.ValidString(f.name) {
			return badField(t, sf.Name, "the name is not UTF-8")
		}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "":
			case "omitempty":
				f.omitEmpty = true
			case "omitzero":
				f.omitZero = true
			default:
				return badField(t, sf.Name, "the option "+strconv.Quote(option)+" is neither omitempty nor omitzero")
			}
		}
		*all = append(*all, f)
	}
	return nil
}

func badField(t reflect.Type, name, reason string) error {
	return errors.New("field " + name + " of " + t.String() + ": " + reason)
}

// zeroOf returns the test that omitzero wants: the type's own IsZero where it has one, else all zero.
func zeroOf(t reflect.Type) func(p unsafe.Pointer) bool {
	if t.Implements(reflect.TypeFor[interface{ IsZero() bool }]()) && t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		return func(p unsafe.Pointer) bool {
			return reflect.NewAt(t, p).Elem().Interface().(interface{ IsZero() bool }).IsZero()
		}
	}
	return func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().IsZero() }
}
