package abi

import (
	"slices"
	"strconv"
	"strings"
)

// Keep says which state of an activation outlives it.
type Keep string

// Level says how long it is kept.
type Level string

// What is kept, and for how long: two separate things.
const (
	KeepNone  Keep = "none"  // nothing: each activation starts anew
	KeepTyped Keep = "typed" // what wasilo_save returns
	KeepImage Keep = "image" // the instance's memory

	LevelVolatile    Level = "volatile"    // until passivation
	LevelHibernating Level = "hibernating" // across passivation and planned moves
	LevelDurable     Level = "durable"     // across crashes
)

// State is what a kind declares of its state.
type State struct {
	Keep    Keep   // "" reads as none
	Level   Level  // "" reads as volatile
	Version uint32 // of the typed form
}

// Method is one method of a kind.
type Method struct {
	Name     string
	Doc      string
	ReadOnly bool    // its turns get no effects
	Params   *Schema // nil: any
	Result   *Schema // nil: any
}

// KindDescription is what a module says of one kind that it serves.
type KindDescription struct {
	Name    string
	Doc     string
	Events  []EventTag // what the host may send; never empty
	Methods []Method   // sorted by name; empty: the guest decides by itself
	State   State
}

// Method finds a method by name.
func (k *KindDescription) Method(name string) (*Method, bool) {
	i, ok := slices.BinarySearchFunc(k.Methods, name, func(m Method, name string) int {
		return strings.Compare(m.Name, name)
	})
	if !ok {
		return nil, false
	}
	return &k.Methods[i], true
}

// Handles reports whether the kind declared the event.
func (k *KindDescription) Handles(t EventTag) bool {
	for _, e := range k.Events {
		if e == t {
			return true
		}
	}
	return false
}

// Description is what wasilo_describe returns: the module's version of the ABI, and its kinds.
type Description struct {
	Major, Minor uint32
	SDK          string // who wrote the guest's side, for people: "go 0.1"
	Kinds        []KindDescription
}

// AppendDescription appends d's encoding: a map with text keys, since guests in C write it by hand.
func AppendDescription(b []byte, d *Description) []byte {
	b = AppendMap(b, 3)
	b = AppendText(b, "abi")
	b = AppendArray(b, 2)
	b = AppendUint(b, uint64(d.Major))
	b = AppendUint(b, uint64(d.Minor))
	b = AppendText(b, "sdk")
	b = AppendText(b, d.SDK)
	b = AppendText(b, "kinds")
	b = AppendArray(b, len(d.Kinds))
	for i := range d.Kinds {
		b = appendKind(b, &d.Kinds[i])
	}
	return b
}

func appendKind(b []byte, k *KindDescription) []byte {
	b = AppendMap(b, 5)
	b = AppendText(b, "name")
	b = AppendText(b, k.Name)
	b = AppendText(b, "doc")
	b = AppendText(b, k.Doc)
	b = AppendText(b, "events")
	b = AppendArray(b, len(k.Events))
	for _, e := range k.Events {
		b = AppendText(b, e.String())
	}
	b = AppendText(b, "methods")
	b = AppendArray(b, len(k.Methods))
	for i := range k.Methods {
		m := &k.Methods[i]
		b = AppendMap(b, 5)
		b = AppendText(b, "name")
		b = AppendText(b, m.Name)
		b = AppendText(b, "doc")
		b = AppendText(b, m.Doc)
		b = AppendText(b, "read_only")
		b = AppendBool(b, m.ReadOnly)
		b = AppendText(b, "params")
		b = AppendSchema(b, m.Params)
		b = AppendText(b, "result")
		b = AppendSchema(b, m.Result)
	}
	b = AppendText(b, "state")
	b = AppendMap(b, 3)
	b = AppendText(b, "keep")
	b = AppendText(b, string(orDefault(k.State.Keep, KeepNone)))
	b = AppendText(b, "level")
	b = AppendText(b, string(orDefault(k.State.Level, LevelVolatile)))
	b = AppendText(b, "version")
	return AppendUint(b, uint64(k.State.Version))
}

func orDefault[S ~string](v, def S) S {
	if v == "" {
		return def
	}
	return v
}

// textPairs reads the pairs of a map with text keys; unknown keys are skipped, a known key given twice is refused.
func (r *Reader) textPairs(field func(key string) bool) {
	n := r.Map()
	seen := make([]string, 0, 8)
	for ; n > 0 && r.err == nil; n-- {
		at := r.off
		k := r.Text()
		for _, s := range seen {
			if s == k {
				r.off = at
				r.Fail("key " + quote(k) + " stands twice")
				return
			}
		}
		if r.err != nil {
			return
		}
		if field(k) {
			seen = append(seen, k) // known keys are few: the search above stays short
		} else {
			r.Skip()
		}
	}
}

// DecodeDescription reads a description and checks it: valid and distinct kind and method names, known states, at least
// one event a kind, every limit. It does not judge the version (see [Description.CheckVersion]), unless the rest cannot
// be read and another version explains it. Event names that this host does not know are dropped, since it never sends
// them.
func DecodeDescription(b []byte) (*Description, error) {
	if len(b) > MaxDescription {
		return nil, &DecodeError{Reason: "a description of more than " + strconv.Itoa(MaxDescription) + " bytes"}
	}
	d := &Description{}
	r := NewReader(b)
	hasVersion := false
	r.textPairs(func(k string) bool {
		switch k {
		case "abi":
			if r.Array() != 2 {
				r.Fail("abi is [major, minor]")
				return true
			}
			d.Major, d.Minor = r.Uint32(), r.Uint32()
			hasVersion = r.err == nil
		case "sdk":
			d.SDK = string(cut(r.TextBytes(), 127))
		case "kinds":
			n := r.Array()
			if n > MaxKindsPerModule {
				r.Fail("more than " + strconv.Itoa(MaxKindsPerModule) + " kinds")
			}
			for ; n > 0 && r.err == nil; n-- {
				d.Kinds = append(d.Kinds, r.kind())
			}
		default:
			return false
		}
		return true
	})
	r.End()
	if err := r.Err(); err != nil {
		// What another version added may be what could not be read: then the version is the thing to tell.
		if hasVersion {
			if other := d.CheckVersion(); other != nil {
				return nil, other
			}
		}
		return nil, err
	}
	if !hasVersion {
		return nil, &DecodeError{Reason: `the description has no "abi": [major, minor]`}
	}
	if len(d.Kinds) == 0 {
		return nil, &DecodeError{Reason: "the description names no kinds"}
	}
	slices.SortFunc(d.Kinds, func(a, b KindDescription) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(d.Kinds); i++ {
		if d.Kinds[i].Name == d.Kinds[i-1].Name {
			return nil, &DecodeError{Reason: "kind " + quote(d.Kinds[i].Name) + " is described twice"}
		}
	}
	return d, nil
}

func (r *Reader) kind() KindDescription {
	k := KindDescription{State: State{Keep: KeepNone, Level: LevelVolatile}}
	at := r.off
	r.textPairs(func(key string) bool {
		switch key {
		case "name":
			k.Name = r.Text()
		case "doc":
			k.Doc = r.Text()
		case "events":
			for n := r.Array(); n > 0 && r.err == nil; n-- {
				if t, ok := EventTagByName(r.Text()); ok && !k.Handles(t) {
					k.Events = append(k.Events, t)
				}
			}
		case "methods":
			n := r.Array()
			if n > MaxMethodsPerKind {
				r.Fail("more than " + strconv.Itoa(MaxMethodsPerKind) + " methods")
			}
			for ; n > 0 && r.err == nil; n-- {
				k.Methods = append(k.Methods, r.method())
			}
		case "state":
			k.State = r.state()
		default:
			return false
		}
		return true
	})
	if r.err != nil {
		return k
	}
	fail := func(reason string) KindDescription {
		r.off = at
		r.Fail(reason)
		return k
	}
	if err := CheckKind(k.Name); err != nil {
		return fail(err.Error())
	}
	if len(k.Events) == 0 {
		return fail("kind " + quote(k.Name) + " declares no event that this host knows")
	}
	slices.SortFunc(k.Methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(k.Methods); i++ {
		if k.Methods[i].Name == k.Methods[i-1].Name {
			return fail("method " + quote(k.Methods[i].Name) + " of kind " + quote(k.Name) + " is described twice")
		}
	}
	return k
}

func (r *Reader) method() Method {
	var m Method
	at := r.off
	r.textPairs(func(key string) bool {
		switch key {
		case "name":
			m.Name = r.Text()
		case "doc":
			m.Doc = r.Text()
		case "read_only":
			m.ReadOnly = r.Bool()
		case "params":
			m.Params = r.Schema()
		case "result":
			m.Result = r.Schema()
		default:
			return false
		}
		return true
	})
	if r.err == nil && !ValidMethod(m.Name) {
		r.off = at
		r.Fail("method " + quote(m.Name) + ": " + checkMethodName)
	}
	return m
}

func (r *Reader) state() State {
	s := State{Keep: KeepNone, Level: LevelVolatile}
	at := r.off
	r.textPairs(func(key string) bool {
		switch key {
		case "keep":
			s.Keep = Keep(r.Text())
		case "level":
			s.Level = Level(r.Text())
		case "version":
			s.Version = r.Uint32()
		default:
			return false
		}
		return true
	})
	if r.err != nil {
		return s
	}
	switch s.Keep {
	case KeepNone, KeepTyped, KeepImage:
	default:
		r.off = at
		r.Fail(`state keep is "none", "typed" or "image", not ` + quote(string(s.Keep)))
	}
	switch s.Level {
	case LevelVolatile, LevelHibernating, LevelDurable:
	default:
		r.off = at
		r.Fail(`state level is "volatile", "hibernating" or "durable", not ` + quote(string(s.Level)))
	}
	return s
}

// CheckVersion refuses a module that this host cannot serve; the error is an unsupported that says what to do.
func (d *Description) CheckVersion() error {
	v := func(major, minor uint32) string {
		return strconv.FormatUint(uint64(major), 10) + "." + strconv.FormatUint(uint64(minor), 10)
	}
	switch {
	case d.Major != Major:
		return NewError(ErrUnsupported, "the module speaks ABI "+v(d.Major, d.Minor)+", this host "+v(Major, Minor)+
			": rebuild it with an SDK for ABI "+strconv.Itoa(Major))
	case d.Minor > Minor:
		return NewError(ErrUnsupported, "the module needs ABI "+v(d.Major, d.Minor)+", this host speaks "+v(Major, Minor)+
			": upgrade the node, or rebuild the module with an older SDK")
	}
	return nil
}
