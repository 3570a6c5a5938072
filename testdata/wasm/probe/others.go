package main

import (
	"errors"
	"strings"
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// Relay passes calls on, and is heard of when it goes.
type Relay struct{ by string }

func (r *Relay) call(ctx *wasilo.Context, in target) (wasilo.Raw, error) {
	return wasilo.Call[wasilo.Raw](ctx, in.To, in.Method, in.Params, in.options()...)
}

type watchParams struct {
	By string `json:"by"`
}

func (r *Relay) watch(_ *wasilo.Context, in watchParams) (none, error) {
	r.by = in.By
	return none{}, nil
}

// Passivate reports why.
func (r *Relay) Passivate(ctx *wasilo.Context) error {
	if r.by == "" {
		return nil
	}
	return wasilo.Tell(ctx, wasilo.ID("probe", r.by), "note", noteParams{ctx.Self().ID() + ": " + ctx.Reason()})
}

var relayKind = wasilo.Kind("relay",
	wasilo.Method("call", (*Relay).call),
	wasilo.Method("watch", (*Relay).watch),
).Doc("Passes calls on.")

// Fragile does not always start.
type Fragile struct{ ticks int }

// Activate does what the actor's name says.
func (f *Fragile) Activate(ctx *wasilo.Context) error {
	switch id := ctx.Self().ID(); {
	case strings.HasPrefix(id, "broken"):
		return errors.New("broken by name")
	case strings.HasPrefix(id, "crash"):
		panic("crashed by name")
	case strings.HasPrefix(id, "slow"):
		time.Sleep(time.Second)
	case strings.HasPrefix(id, "clock"):
		return wasilo.Every(ctx, "tick", 50*time.Millisecond, none{})
	}
	return nil
}

type ticksResult struct {
	Ticks int `json:"ticks"`
}

func (f *Fragile) look(*wasilo.Context, none) (ticksResult, error) { return ticksResult{f.ticks}, nil }

func (f *Fragile) tick(*wasilo.Context, none) error {
	f.ticks++
	return nil
}

var fragileKind = wasilo.Kind("fragile",
	wasilo.ReadOnly("ticks", (*Fragile).look),
	wasilo.Method("touch", (*Fragile).look),
	wasilo.Timer("tick", (*Fragile).tick),
).Doc("Does not always start.")
