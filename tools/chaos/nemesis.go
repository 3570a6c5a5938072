package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/netns"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// nemesis does to the nodes what the schedule says, and writes down when.
type nemesis struct {
	nodes []*node
	net   *netns.Network
	say   io.Writer
	next  string // the binary of what is restarted; "": the one before
	began time.Time
	up    atomic.Bool // all nodes have been ready: from here on whoever ends is started again

	mu    sync.Mutex
	spans []verdict.Span
	fell  []string // nodes that ended by themselves
	sides []side   // of cuts
	leads leads
	back  sync.WaitGroup
}

// side is what a cut parted, for what is measured of it.
type side struct {
	Span     int      `json:"span"` // its index
	Minority []string `json:"minority"`
}

// ledBy finds who leads in what a node says of its session.
var ledBy = regexp.MustCompile(`node ([a-z0-9_-]+) leads`)

// leader is the index of the node that leads the voters, as most nodes that answer have it.
func (z *nemesis) leader(ctx context.Context) (int, bool) {
	votes := make(map[string]int)
	best := ""
	for _, n := range z.nodes {
		asking, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		r, err := n.http.Ready(asking)
		cancel()
		if err != nil {
			continue
		}
		for _, c := range r.Checks {
			if m := ledBy.FindStringSubmatch(c.Detail); c.Name == "session" && m != nil {
				if votes[m[1]]++; best == "" || votes[m[1]] > votes[best] {
					best = m[1]
				}
			}
		}
	}
	for i, n := range z.nodes {
		if n.id == best {
			return i, true
		}
	}
	return 0, false
}

// leads are the times that each leader was in office.
type leads struct {
	work  sync.WaitGroup
	spans []verdict.Span
}

func (l *leads) wait() []verdict.Span {
	l.work.Wait()
	return l.spans
}

// follow notes who leads, until stop is closed.
func (z *nemesis) follow(ctx context.Context, stop <-chan struct{}) {
	l := &z.leads
	l.work.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			i, ok := z.leader(ctx)
			now := turnlog.Monotonic()
			switch last := len(l.spans) - 1; {
			case !ok:
			case last >= 0 && l.spans[last].Nodes[0] == z.nodes[i].id:
				l.spans[last].To = now
			default:
				l.spans = append(l.spans, verdict.Span{Kind: "leads", What: z.nodes[i].id + " leads", Nodes: []string{z.nodes[i].id}, From: now, To: now})
			}
		}
	})
}

// run carries the schedule out. An error is a failure of the run, not of the cluster.
func (z *nemesis) run(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := sleep(ctx, s.Quiet); err != nil {
			return err
		}
		if s.Kind == killLeader {
			s.Kind = killOne
			if i, ok := z.leader(ctx); ok {
				s.Nodes = []int{i}
			}
		}
		fmt.Fprintf(z.say, "%6.1f s  %s\n", time.Since(z.began).Seconds(), s)
		for _, one := range z.parts(s) {
			if err := z.fault(ctx, one); err != nil {
				return fmt.Errorf("%s: %w", one, err)
			}
		}
	}
	return nil
}

// parts are what a step is made of: nodes are restarted one after another.
func (z *nemesis) parts(s step) (all []step) {
	if s.Kind != restart {
		return []step{s}
	}
	for _, n := range s.Nodes {
		all = append(all, step{Kind: restart, Nodes: []int{n}})
	}
	return all
}

// fault makes one fault, and returns when everything is in order again.
func (z *nemesis) fault(ctx context.Context, s step) error {
	span := verdict.Span{What: s.String(), Kind: s.Kind, From: turnlog.Monotonic(), Violent: s.violent()}
	for _, n := range s.Nodes {
		span.Nodes = append(span.Nodes, z.nodes[n].id)
	}
	err := z.make(ctx, s, &span)
	span.To = turnlog.Monotonic()
	z.mu.Lock()
	defer z.mu.Unlock()
	if s.Kind == cut {
		less := s.Nodes
		if len(s.Other) < len(less) {
			less = s.Other
		}
		d := side{Span: len(z.spans)}
		for _, n := range less {
			d.Minority = append(d.Minority, z.nodes[n].id)
		}
		z.sides = append(z.sides, d)
	}
	z.spans = append(z.spans, span)
	return err
}

func (z *nemesis) make(ctx context.Context, s step, span *verdict.Span) error {
	n := z.nodes[s.Nodes[0]]
	drops := z.drops(s)
	switch s.Kind {
	case cut, deaf, mute, pair:
		if err := z.net.Set(drops); err != nil {
			return err
		}
		return errors.Join(sleep(ctx, s.For), z.net.Set(nil))
	case pause:
		if _, err := n.signal(syscall.SIGSTOP, false); err != nil {
			return err
		}
		err := sleep(ctx, s.For)
		if _, serr := n.signal(syscall.SIGCONT, false); serr != nil {
			return serr
		}
		return err
	case killOne:
		if err := errors.Join(n.kill(), sleep(ctx, s.For), n.start()); err != nil {
			return err
		}
		return n.ready(ctx)
	case bounce:
		began := time.Now()
		if err := errors.Join(n.kill(), n.start()); err != nil {
			return err
		}
		span.What += fmt.Sprintf(" (started again after %v)", time.Since(began).Round(100*time.Microsecond))
		return n.ready(ctx)
	case restart:
		if err := n.stop(); err != nil {
			return err
		}
		if z.next != "" {
			n.args[0] = z.next
		}
		if err := n.start(); err != nil {
			return err
		}
		return n.ready(ctx)
	}
	return fmt.Errorf("there is no fault %q", s.Kind)
}

// drops is what a fault of the network loses.
func (z *nemesis) drops(s step) []netns.Drop {
	var others []int
	for i := range z.nodes {
		if !slices.Contains(s.Nodes, i) {
			others = append(others, i)
		}
	}
	var all []netns.Drop
	switch s.Kind {
	case cut, pair:
		return netns.Between(s.Nodes, s.Other)
	case deaf:
		for _, o := range others {
			all = append(all, netns.Drop{From: o, To: s.Nodes[0]})
		}
	case mute:
		for _, o := range others {
			all = append(all, netns.Drop{From: s.Nodes[0], To: o})
		}
	}
	return all
}

// supervise starts a node that ended by itself again, as systemd would.
func (z *nemesis) supervise(ctx context.Context, n *node, why string) {
	if !z.up.Load() {
		n.mu.Lock()
		n.wanted = false // whoever waits for it to be ready hears of it
		n.mu.Unlock()
		return
	}
	began := turnlog.Monotonic()
	fmt.Fprintf(z.say, "%6.1f s  %s ended by itself: %s\n", time.Since(z.began).Seconds(), n.id, why)
	z.mu.Lock()
	z.fell = append(z.fell, n.id+" ended by itself: "+why)
	z.mu.Unlock()
	z.back.Go(func() {
		if sleep(ctx, time.Second) != nil {
			return
		}
		n.mu.Lock()
		wanted := n.wanted && n.cmd == nil // else the schedule has killed or started it meanwhile
		n.mu.Unlock()
		if !wanted || n.start() != nil || n.ready(ctx) != nil {
			return
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		z.spans = append(z.spans, verdict.Span{What: n.id + " ended by itself", Kind: "fell", Nodes: []string{n.id}, From: began,
			To: turnlog.Monotonic(), Violent: true})
	})
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
