package host_test

import (
	"context"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/actor"
)

// greeter is an actor in Go: it counts whom it greets.
type greeter struct{ greeted int }

func (g *greeter) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	var in struct {
		Name string `cbor:"name"`
	}
	if err := cbor.Unmarshal(ev.Payload, &in); err != nil {
		out.Kind, out.Err = abi.OutError, abi.NewError(abi.ErrInvalidArgument, err.Error())
		return nil
	}
	g.greeted++
	reply, err := cbor.Marshal(fmt.Sprintf("Hello %s, you are number %d", in.Name, g.greeted))
	out.Kind, out.Payload = abi.OutReply, reply
	return err
}

func (g *greeter) Close() error { return nil }

// A node with an actor written in Go, and a program that calls it without a network.
func ExampleNew() {
	node, err := host.New(host.Config{Native: []host.NativeKind{{
		Desc: abi.KindDescription{
			Name:    "greeter",
			Events:  []abi.EventTag{abi.EventCall},
			Methods: []abi.Method{{Name: "greet"}},
		},
		New: func(*actor.Host) (actor.Instance, error) { return &greeter{}, nil },
	}}})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := node.Start(ctx); err != nil {
		panic(err)
	}
	defer node.Shutdown(ctx)

	id, _ := abi.NewIdentity("greeter", "lobby")
	for _, name := range []string{"Ada", "Grace"} {
		in, _ := cbor.Marshal(map[string]string{"name": name})
		reply, err := node.Send(ctx, &abi.Envelope{Target: id, Method: "greet", Payload: in})
		if err != nil {
			panic(err)
		}
		var text string
		if err := cbor.Unmarshal(reply, &text); err != nil {
			panic(err)
		}
		fmt.Println(text)
	}
	// Output:
	// Hello Ada, you are number 1
	// Hello Grace, you are number 2
}
