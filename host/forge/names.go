package forge

import "strings"

// Injected reports whether a name in a backtrace is that of a function which the forge added, [RefillName] included. The
// name may stand behind that of the module, and have parameters behind it. A module without names of its own, as stock
// compilers make them when told to strip, has no other names in its backtraces. No function of a guest has such a name: the
// forge drops it.
func Injected(frame string) bool {
	at := strings.Index(frame, Reserved+".")
	return at == 0 || at > 0 && frame[at-1] == '.'
}

// funcName is an entry of the name section, by the original index.
type funcName struct {
	index uint32
	name  string
}

// parseNames reads the names of the module and of its functions; everything else in a name section is of no use here. A
// malformed section is no error of the module: what was read up to there is dropped.
func parseNames(b []byte, funcs int) (module string, names []funcName) {
	r := &reader{b: b, function: -1}
	for r.err == nil && r.off < len(b) {
		id := r.byte()
		size := r.u32()
		if uint64(size) > uint64(r.left()) {
			return "", nil
		}
		sub := &reader{b: b[:r.off+int(size)], off: r.off, function: -1}
		r.off += int(size)
		switch id {
		case 0:
			module = sub.name()
		case 1:
			names = names[:0]
			for n := sub.count("names", funcs); n > 0 && sub.err == nil; n-- {
				f := funcName{index: sub.u32(), name: sub.name()}
				if int64(f.index) >= int64(funcs) || len(names) > 0 && names[len(names)-1].index >= f.index {
					return "", nil
				}
				names = append(names, f)
			}
		default:
			continue
		}
		if sub.err != nil || sub.off != len(sub.b) {
			return "", nil
		}
	}
	if r.err != nil {
		return "", nil
	}
	return module, names
}

// maxFuncName is how many bytes of a function's name are kept.
const maxFuncName = 256

// nameSection names the functions by their new indices, and the injected ones. Names of locals are dropped: nothing
// shows them.
func (w *rewriter) nameSection() []byte {
	var module string
	var names []funcName
	if w.m.names != nil {
		module, names = parseNames(w.m.names, len(w.m.funcs))
	}
	var all []byte
	n := uint32(0)
	if Injected(module + ".") {
		module = ""
	}
	add := func(index uint32, name string) {
		if len(name) > maxFuncName { // the runtime writes thirty of them into the error of every trap
			name = strings.ToValidUTF8(name[:maxFuncName], "")
		}
		all = appendName(appendU32(all, index), name)
		n++
	}
	guest := func(index uint32, name string) {
		if !Injected(name) {
			add(index, name)
		}
	}
	split := len(names) // the injected import stands between the imported and the defined functions
	for i, f := range names {
		if int(f.index) >= w.m.importedFuncs {
			split = i
			break
		}
	}
	for _, f := range names[:split] {
		guest(f.index, f.name)
	}
	if w.opt.Meter {
		add(w.refill, RefillModule+"."+RefillName)
	}
	for _, f := range names[split:] {
		guest(w.fn(f.index), f.name)
	}
	for i, h := range w.helpers {
		add(w.helperIndex(i), h.name)
	}
	if n == 0 && module == "" {
		return nil
	}
	b := appendName(nil, "name")
	if module != "" {
		b = appendSection(b, 0, appendName(nil, module))
	}
	if n > 0 {
		b = appendSection(b, 1, append(appendU32(nil, n), all...))
	}
	return b
}
