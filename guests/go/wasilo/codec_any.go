package wasilo

import (
	"math"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// encAny writes whatever the any holds by the plan of its own type.
func encAny(e *encoder, p unsafe.Pointer) {
	switch v := (*(*any)(p)).(type) {
	case nil:
		e.b = abi.AppendNull(e.b)
	case bool:
		e.b = abi.AppendBool(e.b, v)
	case int:
		e.b = abi.AppendInt(e.b, int64(v))
	case int64:
		e.b = abi.AppendInt(e.b, v)
	case float64:
		e.b = abi.AppendFloat(e.b, v)
	case string:
		e.text(v)
	default:
		c, err := codecFor(reflect.TypeOf(v))
		if err != nil {
			e.fail(err.Error())
			return
		}
		box := reflect.New(c.typ)
		box.Elem().Set(reflect.ValueOf(v))
		c.enc(e, box.UnsafePointer())
	}
}

// decAny reads what CBOR says by itself: nil, bool, int64 (uint64 where that is too small), float64, string, []byte,
// []any or map[string]any.
func decAny(d *decoder, p unsafe.Pointer) {
	into := (*any)(p)
	c, ok := d.r.Peek()
	if !ok {
		d.r.Skip() // fails in the reader's own words
		return
	}
	switch c >> 5 {
	case 0:
		if v := d.r.Uint(); v > math.MaxInt64 {
			*into = v
		} else {
			*into = int64(v)
		}
	case 1:
		*into = d.r.Int()
	case 2:
		b := d.r.Bytes()
		*into = append(make([]byte, 0, len(b)), b...)
	case 3:
		*into = d.r.Text()
	case 4:
		*into = decAnyList(d)
	case 5:
		*into = decAnyMap(d)
	default:
		switch {
		case d.r.Null():
			*into = nil
		case c == 0xf4 || c == 0xf5:
			*into = d.r.Bool()
		case c == 0xf9 || c == 0xfa || c == 0xfb:
			*into = d.r.Float()
		default:
			d.r.Fail("tags and simple values are not read here; a field of type Raw takes them")
		}
	}
}

func decAnyList(d *decoder) any {
	n := d.r.Array()
	if d.failed() || !d.spend(n, 16) || !d.enter() {
		return nil
	}
	list := make([]any, n)
	for i := range list {
		if decAny(d, unsafe.Pointer(&list[i])); d.failed() {
			d.step("[" + strconv.Itoa(i) + "]")
			return nil
		}
	}
	d.depth--
	return list
}

func decAnyMap(d *decoder) any {
	n, ok := mapHead(d, 16)
	if !ok {
		return nil
	}
	m := make(map[string]any, n)
	decPairs(d, n, func(k string) {
		var v any
		decAny(d, unsafe.Pointer(&v))
		m[k] = v
	}, func() int { return len(m) })
	return m
}
