package main

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// none is the result of a method that only succeeds.
type none = wasilo.None

type epoch struct {
	Generation uint32 `json:"generation"`
	Index      uint64 `json:"index"`
}

type selfResult struct {
	Identity    wasilo.Identity `json:"identity"`
	Caller      string          `json:"caller"`
	Reason      string          `json:"reason"`
	Method      string          `json:"method"`
	Key         string          `json:"key"`
	Epoch       epoch           `json:"epoch"`
	Turns       int             `json:"turns"`
	RemainingMS int64           `json:"remaining_ms"`
}

func (p *Probe) self(ctx *wasilo.Context, _ none) (selfResult, error) {
	e := ctx.Epoch()
	return selfResult{Identity: ctx.Self(), Caller: ctx.Caller().String(), Reason: p.reason, Method: ctx.Method(),
		Key: ctx.IdempotencyKey(), Epoch: epoch{e.Generation, e.Index}, Turns: p.turns,
		RemainingMS: ctx.Remaining().Milliseconds()}, nil
}

type clockResult struct {
	Host int64 `json:"host_ns"`
	WASI int64 `json:"wasi_ns"`
}

func (p *Probe) clock(ctx *wasilo.Context, _ none) (clockResult, error) {
	return clockResult{Host: ctx.Now().UnixNano(), WASI: time.Now().UnixNano()}, nil
}

type randomResult struct {
	Host  uint64 `json:"host"`
	Host2 uint64 `json:"host2"`
	WASI  uint64 `json:"wasi"`
}

func (p *Probe) random(ctx *wasilo.Context, _ none) (randomResult, error) {
	var b [8]byte
	_, err := cryptorand.Read(b[:])
	return randomResult{ctx.Rand().Uint64(), ctx.Rand().Uint64(), binary.LittleEndian.Uint64(b[:])}, err
}

// Note is something an actor was told.
type Note struct {
	From string `json:"from"`
	Text string `json:"text"`
}

type noteParams struct {
	Text string `json:"text"`
}

type countResult struct {
	Count int `json:"count"`
}

func (p *Probe) note(ctx *wasilo.Context, in noteParams) (countResult, error) {
	return p.add(ctx.Caller().String(), in.Text), nil
}

func (p *Probe) add(from, text string) countResult {
	p.notes = append(p.notes, Note{from, text})
	return countResult{len(p.notes)}
}

type notesResult struct {
	Notes []Note `json:"notes"`
}

func (p *Probe) list(*wasilo.Context, none) (notesResult, error) { return notesResult{p.notes}, nil }

func (p *Probe) echo(_ *wasilo.Context, in wasilo.Raw) (wasilo.Raw, error) { return in, nil }

func (p *Probe) bytes(_ *wasilo.Context, in []byte) ([]byte, error) { return in, nil }

type sizeParams struct {
	N int `json:"n"`
}

func (p *Probe) big(_ *wasilo.Context, in sizeParams) (string, error) {
	if in.N < 0 {
		return "", wasilo.Errorf("invalid_size", "n is %d", in.N)
	}
	return strings.Repeat("x", in.N), nil
}

type hexParams struct {
	Hex string `json:"hex"`
}

func (p *Probe) raw(_ *wasilo.Context, in hexParams) (wasilo.Raw, error) {
	b, err := hex.DecodeString(in.Hex)
	return b, err
}

type failParams struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (p *Probe) fail(_ *wasilo.Context, in failParams) (none, error) {
	return none{}, wasilo.Errorf(in.Code, "%s", in.Message)
}

type codeParams struct {
	Code int `json:"code"`
}

func (p *Probe) wire(_ *wasilo.Context, in codeParams) (none, error) {
	return none{}, abi.NewError(abi.Code(in.Code), "asked for by the test")
}

type logParams struct {
	Level string `json:"level"`
	Text  string `json:"text"`
	N     int    `json:"n,omitempty"`
}

func (p *Probe) log(ctx *wasilo.Context, in logParams) (none, error) {
	write, ok := map[string]func(string, ...any){
		"debug": ctx.Log().Debug, "info": ctx.Log().Info, "warn": ctx.Log().Warn, "error": ctx.Log().Error,
	}[in.Level]
	if !ok {
		return none{}, wasilo.Errorf("invalid_level", "%q", in.Level)
	}
	for i := range max(1, in.N) {
		write(in.Text, "line", i)
	}
	return none{}, nil
}

type printParams struct {
	Text   string `json:"text"`
	Stderr bool   `json:"stderr,omitempty"`
}

func (p *Probe) print(_ *wasilo.Context, in printParams) (none, error) {
	to := os.Stdout
	if in.Stderr {
		to = os.Stderr
	}
	_, err := fmt.Fprintln(to, in.Text)
	return none{}, err
}
