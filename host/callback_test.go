package host

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
)

// An actor is asked, answers, and asks back in its next turn. Nobody waits in a circle, though the answer and the question come on
// two connections, and the question may be the first to be read.
func TestAnActorThatAsksBackIsNoDeadlock(t *testing.T) {
	p := newParty(t)
	var done atomic.Int64
	told := make(chan *abi.Error, 1000)
	ask := func(h *actor.Host, key, method string) *abi.Error {
		to, err := abi.ParseIdentity(key)
		if err != nil {
			return abi.AsError(err)
		}
		return h.Request(&abi.Request{Target: to, Method: method, Payload: abi.AppendText(nil, h.Identity().Key())}).Err
	}
	pal := nativeKind("pal", func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		r := abi.NewReader(ev.Payload)
		switch key := r.Text(); ev.Method {
		case "go": // asks the other to register it
			if err := ask(h, key, "register"); err != nil {
				out.Kind, out.Err = abi.OutError, err
				return nil
			}
		case "register": // answers, and is to greet whom it registered
			out.Kind = abi.OutEffects
			out.Effects = append(out.Effects, abi.Effect{Tag: abi.EffectReply, Token: ev.Token, Payload: abi.AppendUint(nil, 1)},
				abi.Effect{Tag: abi.EffectTell, Target: h.Identity(), Method: "greet", Payload: append([]byte(nil), ev.Payload...)})
			return nil
		case "greet":
			if err := ask(h, key, "welcome"); err != nil {
				told <- err
			}
			done.Add(1)
			out.Kind = abi.OutEffects
			return nil
		}
		return replyWith(out, abi.AppendUint(nil, 1))
	})
	p.add(p.config("n1", pal))
	p.add(p.config("n2", pal))
	p.agree()
	var names [2]string
	for i := 0; names[0] == "" || names[1] == ""; i++ {
		name := "pal/" + strconv.Itoa(i)
		if p.owner("n1", name) == "n1" {
			names[0] = name
		} else {
			names[1] = name
		}
	}
	const rounds = 200
	for i := range rounds {
		mustCall(t, p.nodes["n1"], names[0], "go", strconv.Quote(names[1]))
		p.until("the call back", func() bool { return done.Load() > int64(i) })
	}
	if n := len(told); n > 0 {
		t.Errorf("%d of %d calls back failed, the first: %v", n, rounds, <-told)
	}
}

// What waits at an actor that moves has its turn where the actor is then, sent by whatever way.
func TestWhatWaitsMovesWithItsActor(t *testing.T) {
	p := newParty(t)
	release := make(chan struct{})
	var turns atomic.Int64
	box := nativeKind("box", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "block" {
			<-release
		}
		turns.Add(1)
		if ev.Tag == abi.EventMessage {
			out.Kind = abi.OutEffects
			return nil
		}
		return replyWith(out, ev.Payload)
	})
	patient := func(id string) Config {
		cfg := p.config(id, box)
		cfg.Limits.Turn = 10 * hang // a turn that waits for another node to come
		return cfg
	}
	n1 := p.add(patient("n1"))
	const actors = 40
	ends := make(chan error, 3*actors)
	for i := range actors {
		id, err := abi.ParseIdentity("box/" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		env := func(method string) *abi.Envelope {
			return &abi.Envelope{Target: id, Method: method, Payload: []byte{1}, Deadline: time.Now().Add(5 * hang)}
		}
		tell := env("tell")
		tell.Flags |= abi.OneWay
		for _, e := range []*abi.Envelope{env("block"), env("post")} {
			if err := n1.API().Post(e, func(_ []byte, err error) { ends <- err }); err != nil {
				t.Fatal(err)
			}
		}
		if err := n1.API().Post(tell, nil); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := n1.API().Send(context.Background(), env("send"))
			ends <- err
		}()
	}
	p.until("all of it waits", func() bool {
		waiting := 0
		for _, a := range n1.Actors(gateway.ActorQuery{Limit: actors}).Actors {
			waiting += a.Waiting
		}
		return waiting == 3*actors
	})
	p.add(patient("n2"))
	p.agree()
	close(release)
	for range 3 * actors {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	p.until("every message has had its turn", func() bool { return turns.Load() >= 4*actors })
	if n := turns.Load(); n != 4*actors {
		t.Errorf("%d turns of %d messages", n, 4*actors)
	}
}
