package abi

import (
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCDDL holds that abi.cddl accepts the bytes of every vector, refuses those of the malformed ones whose fault CDDL can
// tell, and calls every key what ABI.md calls it.
func TestCDDL(t *testing.T) {
	b, err := os.ReadFile("abi.cddl")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := parseCDDL(string(b))
	if err != nil {
		t.Fatal(err)
	}
	vectors := readVectors(t)
	for _, c := range vectors.Cases {
		// Tags, types and codes of a later version are what the spec of this one cannot have.
		if regexp.MustCompile(`version|beyond 16 bits|unknown (tag|scalar|composite|inside|ones)`).MatchString(c.Name) {
			continue
		}
		for _, h := range []string{c.Hex, c.Canonical} {
			if h == "" {
				continue
			}
			if rule, item := ruleFor(c.Type, unhex(t, h)); rule != "" && !spec.matches(rule, item) {
				t.Errorf("%s: %x is no %s", c.Name, item, rule)
			}
		}
	}
	refused := 0
	for _, m := range vectors.Malformed {
		rule, item := ruleFor(m.Type, unhex(t, m.Hex))
		if rule != "" && !spec.matches(rule, item) {
			refused++
			continue
		}
		// What is left are lengths, names that stand twice, and what is inside of identities.
		if rule != "" && !regexp.MustCompile(`twice|identity|declares no event|nested deeper`).MatchString(m.Reason) {
			t.Errorf("%s is a %s by the spec", m.Name, rule)
		}
	}
	if refused < 50 {
		t.Errorf("only %d malformed vectors are refused", refused)
	}

	wire := table(t, readMarkdown(t), "key", "name", "value")
	for _, k := range regexp.MustCompile(`(?m)^  \(?(?:\? )?(\d+): [^;]*; (\w+)`).FindAllStringSubmatch(string(b), -1) {
		number, name := k[1], k[2]
		names := []string{}
		for _, rows := range [][][]string{wire, keys(t, "errKey"), keys(t, "selfKey")} {
			if n, _ := strconv.Atoi(number); n < len(rows) {
				names = append(names, rows[n][1])
			}
		}
		if !slices.Contains(names, name) {
			t.Errorf("the key %s is called %s; ABI.md knows it as %q", number, name, names)
		}
	}
}

// ruleFor returns the rule and the CBOR item of a vector, "" where there is none.
func ruleFor(typ string, b []byte) (rule string, item []byte) {
	switch typ {
	case "output", "result":
		if len(b) == 0 {
			return "", nil
		}
		switch b[0] {
		case OutError:
			return "error", b[1:]
		case OutEffects:
			if typ == "output" {
				return "effects", b[1:]
			}
		}
		return "", nil
	case "identity":
		return "", nil
	}
	return typ, b
}

// What follows is as much of CDDL (RFC 8610) as abi.cddl uses.

type cddl struct {
	types  map[string]node
	groups map[string]group
}

// node is a type.
type node struct {
	kind  string // "choice", "literal", "ref", "map", "array", "range", "control"
	value any    // literal: uint64 or string
	name  string // ref: of the type; control: of the operator
	args  []node // choice: its types; range and control: operands; control .bits: the choices
	group group
}

// group is a choice of sequences.
type group [][]entry

type entry struct {
	least, most int
	key         *node // nil: none, or a name before a colon in an array
	cut         bool
	typ         node
	inline      group // instead of typ
}

var cddlToken = regexp.MustCompile(`"[^"]*"|\.\.|\.[a-z]+|=>|//|[A-Za-z_$@][\w-]*|\d+|[^\s\w]`)

type cddlParser struct {
	tokens []string
	i      int
}

func parseCDDL(src string) (spec *cddl, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("abi.cddl: %v", p)
		}
	}()
	p := &cddlParser{}
	for line := range strings.Lines(src) {
		code, _, _ := strings.Cut(line, ";")
		p.tokens = append(p.tokens, cddlToken.FindAllString(code, -1)...)
	}
	spec = &cddl{map[string]node{}, map[string]group{}}
	for p.i < len(p.tokens) {
		name := p.next()
		p.want("=")
		if p.peek() == "(" {
			p.next()
			spec.groups[name] = p.group(")")
		} else {
			spec.types[name] = p.typ()
		}
	}
	return spec, nil
}

func (p *cddlParser) peek() string {
	if p.i < len(p.tokens) {
		return p.tokens[p.i]
	}
	return ""
}

func (p *cddlParser) next() string {
	p.i++
	return p.tokens[p.i-1]
}

func (p *cddlParser) want(token string) {
	if got := p.next(); got != token {
		panic(fmt.Sprintf("%q expected, not %q, before %q", token, got, p.tokens[p.i:min(p.i+6, len(p.tokens))]))
	}
}

func (p *cddlParser) typ() node {
	choice := node{kind: "choice", args: []node{p.single()}}
	for p.peek() == "/" {
		p.next()
		choice.args = append(choice.args, p.single())
	}
	return choice
}

func (p *cddlParser) single() node {
	n := p.primary()
	switch op := p.peek(); {
	case op == "..":
		p.next()
		n = node{kind: "range", args: []node{n, p.primary()}}
	case len(op) > 1 && op[0] == '.':
		p.next()
		n = node{kind: "control", name: op, args: []node{n, p.primary()}}
	}
	return n
}

func (p *cddlParser) primary() node {
	switch token := p.next(); {
	case token == "{":
		return node{kind: "map", group: p.group("}")}
	case token == "[":
		return node{kind: "array", group: p.group("]")}
	case token == "(":
		n := p.typ()
		p.want(")")
		return n
	case token == "&":
		p.want("(")
		n := node{kind: "choice"}
		for _, e := range p.group(")")[0] {
			n.args = append(n.args, e.typ)
		}
		return n
	case token[0] == '"':
		return node{kind: "literal", value: strings.Trim(token, `"`)}
	case token[0] >= '0' && token[0] <= '9':
		return node{kind: "literal", value: number(token)}
	case regexp.MustCompile(`^[a-z]`).MatchString(token):
		return node{kind: "ref", name: token}
	default:
		panic(fmt.Sprintf("a type expected, not %q", token))
	}
}

func (p *cddlParser) group(end string) group {
	g := group{nil}
	for p.peek() != end {
		switch p.peek() {
		case "//":
			p.next()
			g = append(g, nil)
		case ",":
			p.next()
		default:
			g[len(g)-1] = append(g[len(g)-1], p.entry())
		}
	}
	p.next()
	return g
}

func (p *cddlParser) entry() entry {
	e := entry{least: 1, most: 1}
	digits := regexp.MustCompile(`^\d+$`)
	switch {
	case p.peek() == "?":
		p.next()
		e.least = 0
	case p.peek() == "*" || digits.MatchString(p.peek()) && p.tokens[p.i+1] == "*":
		e.least, e.most = 0, math.MaxInt
		if p.peek() != "*" {
			e.least = int(number(p.next()))
		}
		p.want("*")
		if digits.MatchString(p.peek()) {
			e.most = int(number(p.next()))
		}
	}
	if p.peek() == "(" {
		p.next()
		e.inline = p.group(")")
		return e
	}
	e.typ = p.typ()
	switch p.peek() {
	case ":":
		p.next()
		key := e.typ.args[0]
		if key.kind == "literal" {
			e.key = &key
		}
		e.cut, e.typ = true, p.typ()
	case "=>":
		p.next()
		key := e.typ
		e.key, e.typ = &key, p.typ()
	}
	return e
}

// The values of generic CBOR, beside uint64, string, []byte, bool and float64.
type (
	negative uint64
	array    []any
	pairs    [][2]any
	other    byte
	tagged   struct{ content any }
)

func generic(r *Reader) any {
	c, _ := r.Peek()
	switch c >> 5 {
	case majorUint:
		return r.Uint()
	case majorNint:
		_, v, _ := r.head()
		return negative(v)
	case majorBytes:
		return r.Bytes()
	case majorText:
		return r.Text()
	case majorArray:
		out := array{}
		for n := r.Array(); n > 0 && r.Err() == nil; n-- {
			out = append(out, generic(r))
		}
		return out
	case majorMap:
		out := pairs{}
		for n := r.Map(); n > 0 && r.Err() == nil; n-- {
			out = append(out, [2]any{generic(r), generic(r)})
		}
		return out
	case majorTag:
		r.head()
		return tagged{generic(r)}
	}
	switch c {
	case 0xf4, 0xf5:
		return r.Bool()
	case 0xf9, 0xfa, 0xfb:
		return r.Float()
	}
	r.head()
	return other(c)
}

func (s *cddl) matches(rule string, b []byte) bool {
	check := NewReader(b)
	check.Skip() // nesting and lengths
	check.End()
	if check.Err() != nil {
		return false
	}
	r := NewReader(b)
	return s.match(node{kind: "ref", name: rule}, generic(&r)) && r.Err() == nil
}

func (s *cddl) match(n node, v any) bool {
	switch n.kind {
	case "choice":
		return slices.ContainsFunc(n.args, func(n node) bool { return s.match(n, v) })
	case "literal":
		return n.value == v
	case "range":
		u, ok := v.(uint64)
		return ok && u >= n.args[0].value.(uint64) && u <= n.args[1].value.(uint64)
	case "control":
		return s.match(n.args[0], v) && s.control(n.name, n.args[1], v)
	case "array":
		list, ok := v.(array)
		return ok && slices.ContainsFunc(s.flatten(n.group), func(es []entry) bool { return s.matchArray(es, list) })
	case "map":
		ps, ok := v.(pairs)
		return ok && slices.ContainsFunc(s.flatten(n.group), func(es []entry) bool { return s.matchMap(es, ps) })
	}
	ok := false
	switch n.name {
	case "any":
		ok = true
	case "uint":
		_, ok = v.(uint64)
	case "tstr":
		_, ok = v.(string)
	case "bstr":
		_, ok = v.([]byte)
	case "bool":
		_, ok = v.(bool)
	default:
		def, known := s.types[n.name]
		if !known {
			panic("abi.cddl defines no " + n.name)
		}
		ok = s.match(def, v)
	}
	return ok
}

func (s *cddl) control(op string, arg node, v any) bool {
	switch op {
	case ".gt":
		return v.(uint64) > arg.value.(uint64)
	case ".regexp":
		return regexp.MustCompile("^(?:" + arg.value.(string) + ")$").MatchString(v.(string))
	case ".bits":
		u := v.(uint64)
		for _, bit := range s.types[arg.name].args[0].args {
			u &^= 1 << bit.args[0].value.(uint64)
		}
		return u == 0
	case ".size":
		if text, ok := v.(string); ok {
			if arg.kind == "literal" {
				return uint64(len(text)) == arg.value
			}
			return s.match(arg, uint64(len(text)))
		}
		return v.(uint64) < 1<<(8*arg.value.(uint64)) // an unsigned integer's bytes
	}
	panic("unknown operator " + op)
}

// flatten replaces named and inline groups by what they hold; it returns every way to do so.
func (s *cddl) flatten(g group) [][]entry {
	var out [][]entry
	for _, seq := range g {
		ways := [][]entry{nil}
		for _, e := range seq {
			inner := e.inline
			if e.key == nil && inner == nil && len(e.typ.args) == 1 {
				inner = s.groups[e.typ.args[0].name]
			}
			parts := [][]entry{{e}}
			if inner != nil {
				parts = s.flatten(inner)
			}
			var next [][]entry
			for _, w := range ways {
				for _, p := range parts {
					next = append(next, slices.Concat(w, p))
				}
			}
			ways = next
		}
		out = append(out, ways...)
	}
	return out
}

func (s *cddl) matchArray(es []entry, list array) bool {
	for _, e := range es {
		n := 0
		for n < e.most && n < len(list) && s.match(e.typ, list[n]) {
			n++
		}
		if n < e.least {
			return false
		}
		list = list[n:]
	}
	return len(list) == 0
}

func (s *cddl) matchMap(es []entry, ps pairs) bool {
	left := map[int]bool{}
	for i := range ps {
		left[i] = true
	}
	for _, e := range es {
		n := 0
		for _, i := range slices.Sorted(maps.Keys(left)) {
			if n == e.most || !s.match(*e.key, ps[i][0]) {
				continue
			}
			if s.match(e.typ, ps[i][1]) {
				delete(left, i)
				n++
			} else if e.cut {
				return false
			}
		}
		if n < e.least {
			return false
		}
	}
	return len(left) == 0
}
