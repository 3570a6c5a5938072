package main

import (
	"os"
	"runtime"
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

type msParams struct {
	MS int64 `json:"ms"`
}

func (p *Probe) spin(_ *wasilo.Context, in msParams) (msParams, error) {
	began := time.Now()
	for time.Since(began) < time.Duration(in.MS)*time.Millisecond {
	}
	return msParams{time.Since(began).Milliseconds()}, nil
}

func (p *Probe) forever(*wasilo.Context, none) (none, error) {
	for {
	}
}

func (p *Probe) sleep(_ *wasilo.Context, in msParams) (msParams, error) {
	began := time.Now()
	time.Sleep(time.Duration(in.MS) * time.Millisecond)
	return msParams{time.Since(began).Milliseconds()}, nil
}

type mbParams struct {
	MB int `json:"mb"`
}

func (p *Probe) hog(_ *wasilo.Context, in mbParams) (mbParams, error) {
	for i := 0; in.MB == 0 || i < in.MB; i++ {
		b := make([]byte, 1<<20)
		for j := 0; j < len(b); j += 4096 {
			b[j] = 1
		}
		p.hoard = append(p.hoard, b)
	}
	return mbParams{len(p.hoard)}, nil
}

func (p *Probe) recurse(*wasilo.Context, none) (int, error) { return deeper(1), nil }

func deeper(n int) int {
	var frame [256]int
	frame[n%256] = deeper(n + 1)
	return frame[(n+1)%256] + frame[n%256]
}

func (p *Probe) background(_ *wasilo.Context, in msParams) (none, error) {
	go func() {
		time.Sleep(time.Duration(in.MS) * time.Millisecond)
		p.add("background", "done")
	}()
	return none{}, nil
}

type textParams struct {
	Text string `json:"text"`
}

func (p *Probe) panic(_ *wasilo.Context, in textParams) (none, error) { panic(in.Text) }

func (p *Probe) exit(_ *wasilo.Context, in codeParams) (none, error) {
	os.Exit(in.Code)
	return none{}, nil
}

func (p *Probe) nilPointer(*wasilo.Context, none) (int, error) {
	var nobody *Probe
	return nobody.turns, nil
}

func (p *Probe) goexit(*wasilo.Context, none) (none, error) {
	runtime.Goexit()
	return none{}, nil
}
