package wasilo

import (
	"math"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/wasilo/wasilo/abi"
)

// scalar fills in the plan of a boolean, number or string, named types included, and reports whether c is one.
func scalar(c *codec) bool {
	typ := abi.TypeInt
	switch c.typ.Kind() {
	case reflect.Bool:
		typ = abi.TypeBool
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendBool(e.b, *(*bool)(p)) }
		c.dec = func(d *decoder, p unsafe.Pointer) { *(*bool)(p) = d.r.Bool() }
		c.empty = isZero[bool]
	case reflect.String:
		typ = abi.TypeText
		c.enc = func(e *encoder, p unsafe.Pointer) { e.text(*(*string)(p)) }
		c.dec = func(d *decoder, p unsafe.Pointer) { *(*string)(p) = d.r.Text() }
		c.empty = isZero[string]
	case reflect.Int64:
		// On its own, since it is the common case: no conversion, no check of the range.
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendInt(e.b, *(*int64)(p)) }
		c.dec = func(d *decoder, p unsafe.Pointer) { *(*int64)(p) = d.r.Int() }
		c.empty = isZero[int64]
	case reflect.Int:
		signed[int](c)
	case reflect.Int8:
		signed[int8](c)
	case reflect.Int16:
		signed[int16](c)
	case reflect.Int32:
		signed[int32](c)
	case reflect.Uint:
		typ = unsigned[uint](c)
	case reflect.Uint8:
		typ = unsigned[uint8](c)
	case reflect.Uint16:
		typ = unsigned[uint16](c)
	case reflect.Uint32:
		typ = unsigned[uint32](c)
	case reflect.Uint64:
		typ = unsigned[uint64](c)
	case reflect.Float64:
		typ = abi.TypeFloat
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendFloat(e.b, *(*float64)(p)) }
		c.dec = func(d *decoder, p unsafe.Pointer) { *(*float64)(p) = d.r.Float() }
		c.empty = isZero[float64]
	case reflect.Float32:
		typ = abi.TypeFloat
		c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendFloat(e.b, float64(*(*float32)(p))) }
		c.dec = decFloat32
		c.empty = isZero[float32]
	default:
		return false
	}
	c.schema = &abi.Schema{Type: typ}
	return true
}

func isZero[T comparable](p unsafe.Pointer) bool {
	var zero T
	return *(*T)(p) == zero
}

func signed[T int | int8 | int16 | int32](c *codec) {
	name := c.typ.Kind().String()
	c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendInt(e.b, int64(*(*T)(p))) }
	c.dec = func(d *decoder, p unsafe.Pointer) {
		v := d.r.Int()
		if int64(T(v)) != v {
			d.r.Fail(strconv.FormatInt(v, 10) + " does not fit " + name)
			return
		}
		*(*T)(p) = T(v)
	}
	c.empty = isZero[T]
}

func unsigned[T uint | uint8 | uint16 | uint32 | uint64](c *codec) abi.SchemaType {
	name := c.typ.Kind().String()
	c.enc = func(e *encoder, p unsafe.Pointer) { e.b = abi.AppendUint(e.b, uint64(*(*T)(p))) }
	c.dec = func(d *decoder, p unsafe.Pointer) {
		v := d.r.Uint()
		if uint64(T(v)) != v {
			d.r.Fail(strconv.FormatUint(v, 10) + " does not fit " + name)
			return
		}
		*(*T)(p) = T(v)
	}
	c.empty = isZero[T]
	return abi.TypeUint
}

func decFloat32(d *decoder, p unsafe.Pointer) {
	v := d.r.Float()
	if math.Abs(v) > math.MaxFloat32 && !math.IsInf(v, 0) {
		d.r.Fail("a number that fits float32 expected")
		return
	}
	*(*float32)(p) = float32(v)
}
