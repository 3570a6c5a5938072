package abi

import "strconv"

// SchemaType is the outermost type of a [Schema].
type SchemaType uint8

// The types a schema can name.
const (
	TypeAny SchemaType = iota
	TypeBool
	TypeInt
	TypeUint
	TypeFloat
	TypeText
	TypeBytes
	TypeList
	TypeMap // text keys
	TypeRecord
)

var typeNames = [...]string{"any", "bool", "int", "uint", "float", "text", "bytes", "list", "map", "record"}

// String returns the name as it stands in a description.
func (t SchemaType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "?"
}

// Schema describes a payload, so that JSON can be turned into just the CBOR that a method reads, and help can be shown.
// A nil *Schema is any. A schema is no validator for guests: they decode defensively all the same.
type Schema struct {
	Type     SchemaType
	Nullable bool
	Elem     *Schema // of a list or map
	Fields   []Field // of a record
}

// Field is one member of a record.
type Field struct {
	Name     string
	Schema   *Schema
	Optional bool
}

// AppendSchema appends s: a scalar is its name, ["list", T], ["map", T], ["record", [name, T, optional], …],
// ["nullable", T].
func AppendSchema(b []byte, s *Schema) []byte {
	if s == nil {
		return AppendText(b, "any")
	}
	if s.Nullable {
		b = AppendText(AppendArray(b, 2), "nullable")
	}
	switch s.Type {
	case TypeList, TypeMap:
		b = AppendText(AppendArray(b, 2), s.Type.String())
		return AppendSchema(b, s.Elem)
	case TypeRecord:
		b = AppendText(AppendArray(b, 1+len(s.Fields)), "record")
		for _, f := range s.Fields {
			b = AppendText(AppendArray(b, 3), f.Name)
			b = AppendSchema(b, f.Schema)
			b = AppendBool(b, f.Optional)
		}
		return b
	}
	return AppendText(b, s.Type.String())
}

// Schema reads a schema; a type that this host does not know reads as any.
func (r *Reader) Schema() *Schema { return r.schema(0) }

func (r *Reader) schema(depth int) *Schema {
	if depth > MaxDepth/2 {
		r.Fail("a schema nested deeper than " + strconv.Itoa(MaxDepth/2))
		return nil
	}
	c, ok := r.Peek()
	if ok && c>>5 == majorText {
		name := r.Text()
		for t := TypeBool; t <= TypeBytes; t++ {
			if typeNames[t] == name {
				return &Schema{Type: t}
			}
		}
		return nil
	}
	n := r.Array()
	if n == 0 {
		r.Fail(`a schema is a type's name, or an array that starts with "list", "map", "record" or "nullable"`)
		return nil
	}
	at := r.off
	switch name := r.Text(); name {
	case "list", "map", "nullable":
		if n != 2 {
			r.off = at
			r.Fail(quote(name) + " takes one type")
			return nil
		}
		elem := r.schema(depth + 1)
		if name == "nullable" {
			if elem == nil {
				return nil
			}
			elem.Nullable = true
			return elem
		}
		s := &Schema{Type: TypeList, Elem: elem}
		if name == "map" {
			s.Type = TypeMap
		}
		return s
	case "record":
		s := &Schema{Type: TypeRecord}
		if n > 1+MaxFieldsPerRecord {
			r.Fail("a record of more than " + strconv.Itoa(MaxFieldsPerRecord) + " fields")
		}
		for n--; n > 0 && r.err == nil; n-- {
			at = r.off
			if r.Array() != 3 {
				r.off = at
				r.Fail("a field is [name, type, optional]")
				return nil
			}
			f := Field{Name: r.Text(), Schema: r.schema(depth + 1), Optional: r.Bool()}
			if _, twice := s.Field(f.Name); twice && r.err == nil {
				r.off = at
				r.Fail("field " + quote(f.Name) + " stands twice")
			}
			s.Fields = append(s.Fields, f)
		}
		return s
	default:
		for n--; n > 0 && r.err == nil; n-- {
			r.Skip()
		}
		return nil
	}
}

// Field finds a record's field by name.
func (s *Schema) Field(name string) (*Field, bool) {
	if s != nil {
		for i := range s.Fields {
			if s.Fields[i].Name == name {
				return &s.Fields[i], true
			}
		}
	}
	return nil, false
}

// String writes the schema for people: {by: int, note?: text}.
func (s *Schema) String() string {
	if s == nil {
		return "any"
	}
	var t string
	switch s.Type {
	case TypeList:
		t = "[" + s.Elem.String() + "]"
	case TypeMap:
		t = "{text: " + s.Elem.String() + "}"
	case TypeRecord:
		t = "{"
		for i, f := range s.Fields {
			if i > 0 {
				t += ", "
			}
			t += f.Name
			if f.Optional {
				t += "?"
			}
			t += ": " + f.Schema.String()
		}
		t += "}"
	default:
		t = s.Type.String()
	}
	if s.Nullable {
		t += "?"
	}
	return t
}
