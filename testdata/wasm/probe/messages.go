package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// target is a request to another actor.
type target struct {
	To        wasilo.Identity `json:"to"`
	Method    string          `json:"method"`
	Params    wasilo.Raw      `json:"params,omitempty"`
	TimeoutMS int64           `json:"timeout_ms,omitempty"`
	Key       string          `json:"key,omitempty"`
	IfActive  bool            `json:"only_if_active,omitempty"`
}

func (t target) options() []wasilo.CallOption {
	options := []wasilo.CallOption{wasilo.Timeout(time.Duration(t.TimeoutMS) * time.Millisecond), wasilo.IdempotencyKey(t.Key)}
	if t.IfActive {
		options = append(options, wasilo.OnlyIfActive())
	}
	return options
}

func (p *Probe) call(ctx *wasilo.Context, in target) (wasilo.Raw, error) {
	return wasilo.Call[wasilo.Raw](ctx, in.To, in.Method, in.Params, in.options()...)
}

type parallelParams struct {
	Calls []target `json:"calls"`
	Any   bool     `json:"any,omitempty"`
}

type outcome struct {
	OK    wasilo.Raw `json:"ok"`
	Error *string    `json:"error"`
}

type parallelResult struct {
	First    int        `json:"first"`
	Outcomes []*outcome `json:"outcomes"`
}

func (p *Probe) parallel(ctx *wasilo.Context, in parallelParams) (parallelResult, error) {
	var futures []*wasilo.Future[wasilo.Raw]
	var pending []wasilo.Pending
	for _, c := range in.Calls {
		f := wasilo.Start[wasilo.Raw](ctx, c.To, c.Method, c.Params, c.options()...)
		futures, pending = append(futures, f), append(pending, f)
	}
	res := parallelResult{Outcomes: make([]*outcome, len(futures))}
	take := func(i int) {
		raw, err := futures[i].Await()
		res.Outcomes[i] = &outcome{OK: raw}
		if err != nil {
			text := err.Error()
			res.Outcomes[i].Error = &text
		}
	}
	if in.Any {
		first, err := wasilo.WaitAny(ctx, pending...)
		if err != nil {
			return res, err
		}
		res.First = first
		take(first)
		return res, nil
	}
	if err := wasilo.WaitAll(ctx, pending...); err != nil {
		return res, err
	}
	for i := range futures {
		take(i)
	}
	return res, nil
}

func (p *Probe) sequence(ctx *wasilo.Context, in parallelParams) (out wasilo.Raw, err error) {
	for _, c := range in.Calls {
		if out, err = p.call(ctx, c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Probe) tell(ctx *wasilo.Context, in target) (none, error) {
	return none{}, wasilo.Tell(ctx, in.To, in.Method, in.Params, in.options()...)
}

type manyParams struct {
	To wasilo.Identity `json:"to"`
	N  int             `json:"n"`
}

func (p *Probe) tells(ctx *wasilo.Context, in manyParams) (none, error) {
	for i := range in.N {
		if err := wasilo.Tell(ctx, in.To, "note", noteParams{strconv.Itoa(i)}); err != nil {
			return none{}, err
		}
	}
	return none{}, nil
}

type toParams struct {
	To wasilo.Identity `json:"to"`
}

func (p *Probe) failTell(ctx *wasilo.Context, in toParams) (none, error) {
	if err := wasilo.Tell(ctx, in.To, "note", noteParams{"must not arrive"}); err != nil {
		return none{}, err
	}
	return none{}, wasilo.Errorf("dropped", "the message is dropped with this error")
}

func (p *Probe) then(ctx *wasilo.Context, in target) (wasilo.Raw, error) {
	reply := wasilo.Defer[wasilo.Raw](ctx)
	return nil, wasilo.Then(ctx, in.To, in.Method, in.Params, func(ctx *wasilo.Context, out wasilo.Raw, err error) {
		if err != nil {
			p.add("then", err.Error())
			err = reply.Fail(ctx, err)
		} else {
			p.add("then", "ok")
			err = reply.Reply(ctx, out)
		}
		if err != nil {
			ctx.Log().Error("the reply cannot be given", "err", err)
		}
	}, in.options()...)
}

type fanOutResult struct {
	N int `json:"n"`
}

func (p *Probe) fanOut(ctx *wasilo.Context, in manyParams) (fanOutResult, error) {
	reply := wasilo.Defer[fanOutResult](ctx)
	left, failed := in.N, error(nil)
	end := func(ctx *wasilo.Context) error {
		if failed != nil {
			return reply.Fail(ctx, failed)
		}
		return reply.Reply(ctx, fanOutResult{in.N})
	}
	for i := range in.N {
		err := wasilo.Then(ctx, in.To, "note", noteParams{strconv.Itoa(i)}, func(ctx *wasilo.Context, _ countResult, err error) {
			failed = errors.Join(failed, err)
			if left--; left == 0 {
				if err := end(ctx); err != nil {
					ctx.Log().Error("the reply cannot be given", "err", err)
				}
			}
		})
		if err != nil {
			return fanOutResult{}, err
		}
	}
	if in.N == 0 {
		return fanOutResult{}, end(ctx)
	}
	return fanOutResult{}, nil
}

type nameParams struct {
	Name string `json:"name"`
}

func (p *Probe) deferReply(ctx *wasilo.Context, in nameParams) (wasilo.Raw, error) {
	if p.waiting == nil {
		p.waiting = make(map[string][]*wasilo.Deferred[wasilo.Raw])
	}
	p.waiting[in.Name] = append(p.waiting[in.Name], wasilo.Defer[wasilo.Raw](ctx))
	return nil, nil
}

type releaseParams struct {
	Name  string     `json:"name"`
	Value wasilo.Raw `json:"value"`
}

type releasedResult struct {
	Released int `json:"released"`
}

func (p *Probe) release(ctx *wasilo.Context, in releaseParams) (releasedResult, error) {
	return p.answer(in.Name, func(d *wasilo.Deferred[wasilo.Raw]) error { return d.Reply(ctx, in.Value) })
}

type rejectParams struct {
	Name    string `json:"name"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (p *Probe) reject(ctx *wasilo.Context, in rejectParams) (releasedResult, error) {
	return p.answer(in.Name, func(d *wasilo.Deferred[wasilo.Raw]) error {
		return d.Fail(ctx, wasilo.Errorf(in.Code, "%s", in.Message))
	})
}

func (p *Probe) answer(name string, each func(*wasilo.Deferred[wasilo.Raw]) error) (releasedResult, error) {
	all := p.waiting[name]
	for _, d := range all {
		if err := each(d); err != nil {
			return releasedResult{}, err
		}
	}
	delete(p.waiting, name)
	return releasedResult{len(all)}, nil
}

type timerParams struct {
	Name string `json:"name"`
	MS   int64  `json:"ms"`
	Text string `json:"text"`
}

func (p *Probe) after(ctx *wasilo.Context, in timerParams) (none, error) {
	return none{}, wasilo.After(ctx, "tick:"+in.Name, time.Duration(in.MS)*time.Millisecond, in)
}

func (p *Probe) every(ctx *wasilo.Context, in timerParams) (none, error) {
	return none{}, wasilo.Every(ctx, "tick:"+in.Name, time.Duration(in.MS)*time.Millisecond, in)
}

func (p *Probe) cancel(ctx *wasilo.Context, in nameParams) (none, error) {
	return none{}, ctx.Cancel("tick:" + in.Name)
}

func (p *Probe) tick(_ *wasilo.Context, in timerParams) error {
	p.add("timer", in.Name+": "+in.Text)
	return nil
}

type howParams struct {
	How string `json:"how"`
}

func (p *Probe) sneak(ctx *wasilo.Context, in howParams) (none, error) {
	self := ctx.Self()
	switch in.How {
	case "tell":
		return none{}, wasilo.Tell(ctx, self, "note", noteParams{"sneaked"})
	case "then":
		return none{}, wasilo.Then(ctx, self, "note", noteParams{"sneaked"}, func(*wasilo.Context, countResult, error) {})
	case "timer":
		return none{}, wasilo.After(ctx, "tick", 0, timerParams{})
	case "cancel":
		return none{}, ctx.Cancel("tick")
	case "defer":
		wasilo.Defer[none](ctx)
	}
	return none{}, nil
}
