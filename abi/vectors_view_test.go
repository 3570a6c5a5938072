package abi

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

// The readable forms. Byte strings are hex, integers that may pass 2^53 decimal strings, times milliseconds, flags and
// codes their names (or numbers where they have none), absent fields absent.

type hexBytes string

func viewBytes(b []byte) *hexBytes {
	if b == nil {
		return nil
	}
	h := hexBytes(hex.EncodeToString(b))
	return &h
}

func (h *hexBytes) value() []byte {
	if h == nil {
		return nil
	}
	b, err := hex.DecodeString(string(*h))
	if err != nil {
		panic(err)
	}
	return b
}

type identityView struct {
	Kind     string `json:"kind"`
	Identity string `json:"identity"`
}

func idValue(key string) Identity {
	if key == "" {
		return Identity{}
	}
	id, err := ParseIdentity(key)
	if err != nil {
		panic(err)
	}
	return id
}

type errorView struct {
	Code    string    `json:"code"`
	App     string    `json:"app,omitempty"`
	Message string    `json:"message,omitempty"`
	Details *hexBytes `json:"details,omitempty"`
}

func viewError(e *Error) *errorView {
	if e == nil {
		return nil
	}
	code := strconv.Itoa(int(e.Code))
	if int(e.Code) < len(codes) {
		code = e.Code.String()
	}
	return &errorView{code, e.App, e.Message, viewBytes(e.Details)}
}

func (v *errorView) value() *Error {
	if v == nil {
		return nil
	}
	code, ok := CodeByName(v.Code)
	if !ok {
		code = Code(number(v.Code))
	}
	return &Error{Code: code, App: v.App, Message: v.Message, Details: v.Details.value()}
}

func number(s string) uint64 {
	if s == "" {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return v
}

func decimal(v uint64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(v, 10)
}

type epochView struct {
	Generation uint32 `json:"generation"`
	Index      string `json:"index"`
}

func viewEpoch(e Epoch) *epochView {
	if e == (Epoch{}) {
		return nil
	}
	return &epochView{e.Generation, strconv.FormatUint(e.Index, 10)}
}

func (v *epochView) value() Epoch {
	if v == nil {
		return Epoch{}
	}
	return Epoch{v.Generation, number(v.Index)}
}

var flagNames = []string{"only_if_active", "must_exist", "one_way", "idempotent"}

func viewFlags(f Flags) []string {
	var out []string
	for i := range 32 {
		if f&(1<<i) != 0 {
			if i < len(flagNames) {
				out = append(out, flagNames[i])
			} else {
				out = append(out, strconv.Itoa(1<<i))
			}
		}
	}
	return out
}

func flagsValue(names []string) Flags {
	var f Flags
	for _, n := range names {
		if i := slices.Index(flagNames, n); i >= 0 {
			f |= 1 << i
		} else {
			f |= Flags(number(n))
		}
	}
	return f
}

type eventView struct {
	Tag         string     `json:"tag"`
	Method      string     `json:"method,omitempty"`
	Payload     *hexBytes  `json:"payload,omitempty"`
	Token       string     `json:"token,omitempty"`
	Handle      string     `json:"handle,omitempty"`
	Error       *errorView `json:"error,omitempty"`
	Timeout     uint64     `json:"timeout,omitempty"`
	Flags       []string   `json:"flags,omitempty"`
	Caller      string     `json:"caller,omitempty"`
	TraceParent string     `json:"trace_parent,omitempty"`
	TraceState  string     `json:"trace_state,omitempty"`
	Idempotency string     `json:"idempotency,omitempty"`
	Name        string     `json:"name,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Self        *selfView  `json:"self,omitempty"`
}

type selfView struct {
	Kind     string     `json:"kind"`
	Identity string     `json:"identity"`
	Epoch    *epochView `json:"epoch,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

func viewEvent(e *Event) eventView {
	tag := e.Tag.String()
	if tag == "unknown" {
		tag = strconv.Itoa(int(e.Tag))
	}
	v := eventView{tag, e.Method, viewBytes(e.Payload), decimal(e.Token), decimal(e.Handle), viewError(e.Err), toMillis(e.Remaining),
		viewFlags(e.Flags), e.Caller.String(), e.TraceParent, e.TraceState, e.IdempotencyKey, e.Timer, e.Reason, nil}
	if s := e.Self; s != nil {
		v.Self = &selfView{s.Identity.Kind(), s.Identity.ID(), viewEpoch(s.Epoch), s.Reason}
	}
	return v
}

func (v eventView) value() *Event {
	tag, ok := EventTagByName(v.Tag)
	if !ok {
		tag = EventTag(number(v.Tag))
	}
	e := &Event{Tag: tag, Method: v.Method, Payload: v.Payload.value(), Token: number(v.Token), Handle: number(v.Handle),
		Err: v.Error.value(), Timer: v.Name, Remaining: millis(v.Timeout), Flags: flagsValue(v.Flags), Caller: idValue(v.Caller), TraceParent: v.TraceParent,
		TraceState: v.TraceState, IdempotencyKey: v.Idempotency, Reason: v.Reason}
	if s := v.Self; s != nil {
		e.Self = &Self{Identity: idValue(s.Kind + "/" + s.Identity), Epoch: s.Epoch.value(), Reason: s.Reason}
	}
	return e
}

type outputView struct {
	Form    string       `json:"form"`
	Payload *hexBytes    `json:"payload,omitempty"`
	Error   *errorView   `json:"error,omitempty"`
	Effects []effectView `json:"effects,omitempty"`
}

type effectView struct {
	Tag         string     `json:"tag"`
	Method      string     `json:"method,omitempty"`
	Payload     *hexBytes  `json:"payload,omitempty"`
	Target      string     `json:"target,omitempty"`
	Token       string     `json:"token,omitempty"`
	Handle      string     `json:"handle,omitempty"`
	Error       *errorView `json:"error,omitempty"`
	Timeout     uint64     `json:"timeout,omitempty"`
	Flags       []string   `json:"flags,omitempty"`
	Idempotency string     `json:"idempotency,omitempty"`
	Name        string     `json:"name,omitempty"`
	After       uint64     `json:"after,omitempty"`
	Every       uint64     `json:"every,omitempty"`
}

var formNames = []string{OutReply: "reply", OutError: "error", OutEffects: "effects"}

func viewOutput(o *Output) outputView {
	if int(o.Kind) >= len(formNames) {
		return outputView{Form: strconv.Itoa(int(o.Kind))}
	}
	v := outputView{Form: formNames[o.Kind], Payload: viewBytes(o.Payload), Error: viewError(o.Err)}
	for i := range o.Effects {
		e := &o.Effects[i]
		v.Effects = append(v.Effects, effectView{e.Tag.String(), e.Method, viewBytes(e.Payload), e.Target.String(), decimal(e.Token),
			decimal(e.Handle), viewError(e.Err), toMillis(e.Timeout), viewFlags(e.Flags), e.IdempotencyKey, e.Name, toMillis(e.After),
			toMillis(e.Every)})
	}
	return v
}

func (v outputView) value() *Output {
	o := &Output{Kind: byte(slices.Index(formNames, v.Form)), Payload: v.Payload.value(), Err: v.Error.value()}
	for _, e := range v.Effects {
		o.Effects = append(o.Effects, Effect{Tag: EffectTag(slices.Index(effectNames[:], e.Tag)), Method: e.Method,
			Payload: e.Payload.value(), Target: idValue(e.Target), Token: number(e.Token), Handle: number(e.Handle), Err: e.Error.value(), Timeout: millis(e.Timeout),
			Flags: flagsValue(e.Flags), IdempotencyKey: e.Idempotency, Name: e.Name, After: millis(e.After), Every: millis(e.Every)})
	}
	return o
}

type resultView struct {
	Payload *hexBytes  `json:"payload,omitempty"`
	Error   *errorView `json:"error,omitempty"`
}

type requestView struct {
	Target      string    `json:"target"`
	Method      string    `json:"method"`
	Payload     *hexBytes `json:"payload,omitempty"`
	Timeout     uint64    `json:"timeout,omitempty"`
	Flags       []string  `json:"flags,omitempty"`
	Idempotency string    `json:"idempotency,omitempty"`
}

func viewRequest(q *Request) requestView {
	return requestView{q.Target.String(), q.Method, viewBytes(q.Payload), toMillis(q.Timeout), viewFlags(q.Flags), q.IdempotencyKey}
}

func (v requestView) value() *Request {
	return &Request{idValue(v.Target), v.Method, v.Payload.value(), millis(v.Timeout), flagsValue(v.Flags), v.Idempotency}
}

type envelopeView struct {
	requestView
	Timeout     *uint64    `json:"timeout,omitempty"` // 0 is a deadline that has come
	Caller      string     `json:"caller,omitempty"`
	TraceParent string     `json:"trace_parent,omitempty"`
	TraceState  string     `json:"trace_state,omitempty"`
	Chain       []string   `json:"chain,omitempty"`
	Epoch       *epochView `json:"epoch,omitempty"`
}

func viewEnvelope(e *Envelope) envelopeView {
	v := envelopeView{requestView{e.Target.String(), e.Method, viewBytes(e.Payload), 0, viewFlags(e.Flags), e.IdempotencyKey}, nil,
		e.Caller.String(), e.TraceParent, e.TraceState, nil, viewEpoch(e.SenderEpoch)}
	if !e.Deadline.IsZero() {
		ms := toMillis(e.Deadline.Sub(vectorNow))
		v.Timeout = &ms
	}
	for _, id := range e.Chain {
		v.Chain = append(v.Chain, id.Key())
	}
	return v
}

func (v envelopeView) value() *Envelope {
	e := &Envelope{Target: idValue(v.Target), Method: v.Method, Payload: v.Payload.value(),
		TraceParent: v.TraceParent, TraceState: v.TraceState, IdempotencyKey: v.Idempotency, Caller: idValue(v.Caller), SenderEpoch: v.Epoch.value(), Flags: flagsValue(v.Flags)}
	if v.Timeout != nil {
		e.Deadline = vectorNow.Add(millis(*v.Timeout))
	}
	for _, id := range v.Chain {
		e.Chain = append(e.Chain, idValue(id))
	}
	return e
}

type descriptionView struct {
	ABI   [2]uint32  `json:"abi"`
	SDK   string     `json:"sdk"`
	Kinds []kindView `json:"kinds"`
}

type kindView struct {
	Name    string       `json:"name"`
	Doc     string       `json:"doc"`
	Events  []string     `json:"events"`
	Methods []methodView `json:"methods"`
	State   stateView    `json:"state"`
}

type methodView struct {
	Name     string `json:"name"`
	Doc      string `json:"doc"`
	ReadOnly bool   `json:"read_only"`
	Params   any    `json:"params"`
	Result   any    `json:"result"`
}

type stateView struct {
	Keep    Keep   `json:"keep"`
	Level   Level  `json:"level"`
	Version uint32 `json:"version"`
}

func viewDescription(d *Description) descriptionView {
	v := descriptionView{ABI: [2]uint32{d.Major, d.Minor}, SDK: d.SDK}
	for _, k := range d.Kinds {
		kv := kindView{k.Name, k.Doc, nil, []methodView{}, stateView(k.State)}
		for _, e := range k.Events {
			kv.Events = append(kv.Events, e.String())
		}
		for _, m := range k.Methods {
			kv.Methods = append(kv.Methods, methodView{m.Name, m.Doc, m.ReadOnly, viewSchema(m.Params), viewSchema(m.Result)})
		}
		v.Kinds = append(v.Kinds, kv)
	}
	return v
}

func (v descriptionView) value() *Description {
	d := &Description{Major: v.ABI[0], Minor: v.ABI[1], SDK: v.SDK}
	for _, kv := range v.Kinds {
		k := KindDescription{Name: kv.Name, Doc: kv.Doc, State: State(kv.State)}
		for _, name := range kv.Events {
			e, ok := EventTagByName(name)
			if !ok {
				panic("no event " + name)
			}
			k.Events = append(k.Events, e)
		}
		for _, m := range kv.Methods {
			k.Methods = append(k.Methods, Method{m.Name, m.Doc, m.ReadOnly, schemaValue(m.Params), schemaValue(m.Result)})
		}
		d.Kinds = append(d.Kinds, k)
	}
	return d
}

// A schema's readable form is its wire form as JSON.
func viewSchema(s *Schema) any {
	if s == nil {
		return "any"
	}
	var v any = s.Type.String()
	switch s.Type {
	case TypeList, TypeMap:
		v = []any{s.Type.String(), viewSchema(s.Elem)}
	case TypeRecord:
		fields := []any{"record"}
		for _, f := range s.Fields {
			fields = append(fields, []any{f.Name, viewSchema(f.Schema), f.Optional})
		}
		v = fields
	}
	if s.Nullable {
		return []any{"nullable", v}
	}
	return v
}

func schemaValue(v any) *Schema {
	name, ok := v.(string)
	if ok {
		if t := slices.Index(typeNames[:], name); t > 0 {
			return &Schema{Type: SchemaType(t)}
		}
		return nil
	}
	list := v.([]any)
	switch name := list[0].(string); name {
	case "list":
		return &Schema{Type: TypeList, Elem: schemaValue(list[1])}
	case "map":
		return &Schema{Type: TypeMap, Elem: schemaValue(list[1])}
	case "nullable":
		s := schemaValue(list[1])
		s.Nullable = true
		return s
	case "record":
		s := &Schema{Type: TypeRecord}
		for _, f := range list[1:] {
			f := f.([]any)
			s.Fields = append(s.Fields, Field{f[0].(string), schemaValue(f[1]), f[2].(bool)})
		}
		return s
	default:
		panic(fmt.Sprintf("no schema: %v", v))
	}
}
