package wasilo

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// pointer is the plan of *T: null for nil, else the T.
func (comp compiler) pointer(c *codec) error {
	elem := c.typ.Elem()
	if elem.Kind() == reflect.Pointer {
		return errors.New("type " + c.typ.String() + ": a pointer to a pointer cannot travel in a message")
	}
	ec, err := comp.compile(elem)
	if err != nil {
		return err
	}
	if ec.schema != nil {
		schema := *ec.schema
		schema.Nullable = true
		c.schema = &schema
	}
	c.enc = func(e *encoder, p unsafe.Pointer) {
		if at := *(*unsafe.Pointer)(p); at != nil {
			ec.enc(e, at)
			return
		}
		e.b = abi.AppendNull(e.b)
	}
	c.dec = func(d *decoder, p unsafe.Pointer) {
		if d.r.Null() {
			*(*unsafe.Pointer)(p) = nil
			return
		}
		if !d.spend(1, elem.Size()) {
			return
		}
		at := reflect.New(elem).UnsafePointer()
		ec.dec(d, at)
		*(*unsafe.Pointer)(p) = at
	}
	c.empty = isZero[unsafe.Pointer]
	return nil
}

// slice is the plan of []T: a list, or a byte string for bytes. A nil slice travels as an empty one; null reads as nil.
func (comp compiler) slice(c *codec) error {
	c.empty = isEmptySlice
	elem := c.typ.Elem()
	if elem.Kind() == reflect.Uint8 {
		c.schema = &abi.Schema{Type: abi.TypeBytes}
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendBytes(e.b, *(*[]byte)(p)) }
		c.dec = func(d *decoder, p unsafe.Pointer) {
			if d.r.Null() {
				*(*[]byte)(p) = nil
				return
			}
			b := d.r.Bytes()
			*(*[]byte)(p) = append(make([]byte, 0, len(b)), b...)
		}
		return nil
	}
	ec, err := comp.compile(elem)
	if err != nil {
		return err
	}
	size, typ := elem.Size(), c.typ
	c.schema = &abi.Schema{Type: abi.TypeList, Elem: ec.schema}
	c.enc = func(e *encoder, p unsafe.Pointer) {
		list := *(*[]byte)(p)
		encItems(e, ec, unsafe.Pointer(unsafe.SliceData(list)), len(list), size)
	}
	c.dec = func(d *decoder, p unsafe.Pointer) {
		into := reflect.NewAt(typ, p).Elem()
		if d.r.Null() {
			into.SetZero()
			return
		}
		n := d.r.Array()
		if d.failed() || !d.spend(n, size) {
			return
		}
		list := reflect.MakeSlice(typ, n, n)
		into.Set(list)
		decItems(d, ec, list.UnsafePointer(), n, size)
	}
	return nil
}

// array is the plan of [N]T: a list of exactly N, or N bytes.
func (comp compiler) array(c *codec) error {
	elem, n := c.typ.Elem(), c.typ.Len()
	if elem.Kind() == reflect.Uint8 {
		c.schema = &abi.Schema{Type: abi.TypeBytes}
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendBytes(e.b, unsafe.Slice((*byte)(p), n)) }
		c.dec = func(d *decoder, p unsafe.Pointer) {
			b := d.r.Bytes()
			if d.failed() {
				return
			}
			if len(b) != n {
				d.r.Fail(strconv.Itoa(n) + " bytes expected, not " + strconv.Itoa(len(b)))
				return
			}
			copy(unsafe.Slice((*byte)(p), n), b)
		}
		return nil
	}
	ec, err := comp.compile(elem)
	if err != nil {
		return err
	}
	size := elem.Size()
	c.schema = &abi.Schema{Type: abi.TypeList, Elem: ec.schema}
	c.enc = func(e *encoder, p unsafe.Pointer) { encItems(e, ec, p, n, size) }
	c.dec = func(d *decoder, p unsafe.Pointer) {
		if got := d.r.Array(); got != n && !d.failed() {
			d.r.Fail("a list of " + strconv.Itoa(n) + " expected, not of " + strconv.Itoa(got))
		}
		if !d.failed() {
			decItems(d, ec, p, n, size)
		}
	}
	return nil
}

func encItems(e *encoder, ec *codec, p unsafe.Pointer, n int, size uintptr) {
	if !e.enter() {
		return
	}
	e.b = abi.AppendArray(e.b, n)
	for i := range n {
		ec.enc(e, unsafe.Add(p, uintptr(i)*size))
	}
	e.depth--
}

func decItems(d *decoder, ec *codec, p unsafe.Pointer, n int, size uintptr) {
	if !d.enter() {
		return
	}
	for i := range n {
		ec.dec(d, unsafe.Add(p, uintptr(i)*size))
		if d.failed() {
			d.step("[" + strconv.Itoa(i) + "]")
			return
		}
	}
	d.depth--
}

// mapping is the plan of map[string]T, sorted by key so that equal maps are equal bytes. A nil map travels as an empty
// one; null reads as nil. Maps to common types are walked without reflection, others with it.
func (comp compiler) mapping(c *codec) error {
	key, elem := c.typ.Key(), c.typ.Elem()
	if key.Kind() != reflect.String {
		return errors.New("type " + c.typ.String() + " cannot travel in a message: the keys of a map are strings")
	}
	ec, err := comp.compile(elem)
	if err != nil {
		return err
	}
	c.schema = &abi.Schema{Type: abi.TypeMap, Elem: ec.schema}
	c.empty = func(p unsafe.Pointer) bool { return reflect.NewAt(c.typ, p).Elem().Len() == 0 }
	if key == reflect.TypeFor[string]() {
		switch elem {
		case anyType:
			direct[any](c, ec)
			return nil
		case reflect.TypeFor[string]():
			direct[string](c, ec)
			return nil
		case reflect.TypeFor[int64]():
			direct[int64](c, ec)
			return nil
		}
	}
	reflected(c, ec)
	return nil
}

func direct[V any](c, ec *codec) {
	c.enc = func(e *encoder, p unsafe.Pointer) {
		m := *(*map[string]V)(p)
		if !e.enter() {
			return
		}
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		e.b = abi.AppendMap(e.b, len(keys))
		var v V
		for _, k := range keys {
			v = m[k]
			e.text(k)
			ec.enc(e, unsafe.Pointer(&v))
		}
		e.depth--
	}
	c.dec = func(d *decoder, p unsafe.Pointer) {
		n, ok := mapHead(d, unsafe.Sizeof(*new(V)))
		if !ok {
			*(*map[string]V)(p) = nil
			return
		}
		m := make(map[string]V, n)
		*(*map[string]V)(p) = m
		var v, zero V
		decPairs(d, n, func(k string) {
			v = zero
			ec.dec(d, unsafe.Pointer(&v))
			m[k] = v
		}, func() int { return len(m) })
	}
}

func reflected(c, ec *codec) {
	typ, elem := c.typ, c.typ.Elem()
	c.enc = func(e *encoder, p unsafe.Pointer) {
		if !e.enter() {
			return
		}
		m := reflect.NewAt(typ, p).Elem()
		keys := make([]string, 0, m.Len())
		for _, k := range m.MapKeys() {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		e.b = abi.AppendMap(e.b, len(keys))
		v := reflect.New(elem)
		for _, k := range keys {
			v.Elem().Set(m.MapIndex(reflect.ValueOf(k).Convert(typ.Key())))
			e.text(k)
			ec.enc(e, v.UnsafePointer())
		}
		e.depth--
	}
	c.dec = func(d *decoder, p unsafe.Pointer) {
		into := reflect.NewAt(typ, p).Elem()
		n, ok := mapHead(d, elem.Size())
		if !ok {
			into.SetZero()
			return
		}
		m := reflect.MakeMapWithSize(typ, n)
		into.Set(m)
		v := reflect.New(elem)
		decPairs(d, n, func(k string) {
			v.Elem().SetZero()
			ec.dec(d, v.UnsafePointer())
			m.SetMapIndex(reflect.ValueOf(k).Convert(typ.Key()), v.Elem())
		}, m.Len)
	}
}

// mapHead reads a map's head; false: null, or a failure.
func mapHead(d *decoder, size uintptr) (n int, ok bool) {
	if d.r.Null() {
		return 0, false
	}
	n = d.r.Map()
	return n, !d.failed() && d.spend(n, size+16) && d.enter()
}

// decPairs reads n pairs; value reads and stores that of a key, size tells how many are stored.
func decPairs(d *decoder, n int, value func(key string), size func() int) {
	for i := range n {
		k := d.r.Text()
		if !d.failed() {
			value(k)
		}
		if size() != i+1 {
			d.r.Fail("the key stands twice")
		}
		if d.failed() {
			d.step("[" + strconv.Quote(k) + "]")
			return
		}
	}
	d.depth--
}
