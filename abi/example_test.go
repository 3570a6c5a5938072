package abi_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func ExampleParseIdentity() {
	id, err := abi.ParseIdentity("file/etc/passwd")
	fmt.Println(id.Kind(), id.ID(), err)

	_, err = abi.ParseIdentity("file/")
	fmt.Println(errors.Is(err, abi.ErrEmptyIdentity), err)
	// Output:
	// file etc/passwd <nil>
	// true identity "file/": the identity is empty
}

func ExampleCodeOf() {
	err := fmt.Errorf("calling bank/a: %w", abi.NewActorError("insufficient_funds", "the balance is 3"))
	fmt.Println(abi.CodeOf(err).Info().Name, abi.CodeOf(err).Info().Status, errors.Is(err, abi.ErrActor))
	fmt.Println(abi.ErrMailboxFull.Retryable(), abi.ErrTimeout.Retryable())
	// Output:
	// actor_error 422 true
	// true false
}

// What a host does with a turn, the guest being echo.
func ExampleAppendEvent() {
	event := abi.Event{Tag: abi.EventCall, Method: "say", Payload: abi.AppendText(nil, "hello"), Token: 1, Remaining: 5 * time.Second}
	inbox := make([]byte, 0, event.SizeBound())
	inbox = abi.AppendEvent(inbox, &event)

	var seen abi.Event // by the guest
	if err := abi.DecodeEvent(inbox, &seen); err != nil {
		fmt.Println(err)
	}
	reply := abi.AppendOutput(nil, &abi.Output{Kind: abi.OutReply, Payload: seen.Payload})

	var out abi.Output
	fmt.Println(abi.DecodeOutput(reply, &out))
	r := abi.NewReader(out.Payload)
	fmt.Println(seen.Tag, seen.Method, r.Text(), r.Err())
	// Output:
	// <nil>
	// call say hello <nil>
}

// A turn that answers its call and tells somebody else.
func ExampleAppendOutput() {
	lobby, _ := abi.ParseIdentity("chat/lobby")
	b := abi.AppendOutput(nil, &abi.Output{Kind: abi.OutEffects, Effects: []abi.Effect{
		{Tag: abi.EffectReply, Token: 1, Payload: abi.AppendNull(nil)},
		{Tag: abi.EffectTell, Target: lobby, Method: "post"},
	}})
	fmt.Printf("%x\n", b)

	var out abi.Output
	err := abi.DecodeOutput([]byte{abi.OutEffects, 0x81, 0xa1, 0x00, 0x01}, &out) // a reply to nobody
	fmt.Println(err)
	// Output:
	// 0282a300010241f60401a300020164706f7374036a636861742f6c6f626279
	// malformed CBOR at byte 2: a reply needs the token (key 4) of its call
}

// A reader walks a payload by hand; the first failure sticks, so one check at the end is enough.
func ExampleReader() {
	payload := abi.AppendMap(nil, 2)
	payload = abi.AppendInt(abi.AppendText(payload, "by"), 5)
	payload = abi.AppendBool(abi.AppendText(payload, "loud"), true)

	var by int64
	r := abi.NewReader(payload)
	for n := r.Map(); n > 0; n-- {
		switch r.Text() {
		case "by":
			by = r.Int()
		default:
			r.Skip()
		}
	}
	r.End()
	fmt.Println(by, r.Err())
	// Output: 5 <nil>
}

func ExampleDecodeDescription() {
	module := abi.AppendDescription(nil, &abi.Description{Major: abi.Major, SDK: "go 0.1", Kinds: []abi.KindDescription{{
		Name:   "counter",
		Events: []abi.EventTag{abi.EventCall},
		Methods: []abi.Method{{Name: "add", Params: &abi.Schema{Type: abi.TypeRecord, Fields: []abi.Field{
			{Name: "by", Schema: &abi.Schema{Type: abi.TypeInt}, Optional: true},
		}}}},
	}}})

	d, err := abi.DecodeDescription(module)
	if err != nil {
		fmt.Println(err)
		return
	}
	add, ok := d.Kinds[0].Method("add")
	fmt.Println(d.Kinds[0].Name, add.Name, add.Params, ok, d.CheckVersion())
	// Output: counter add {by?: int} true <nil>
}

func ExamplePack() {
	v := abi.Pack(0x10000, 44)
	ptr, n := abi.Unpack(v)
	fmt.Printf("%#x %#x %d\n", v, ptr, n)
	// Output: 0x100000000002c 0x10000 44
}
