package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// grow is a turn that asks for so many pages of 64 KiB.
func grow(t *testing.T, i *Instance, pages int64) int64 {
	t.Helper()
	out, err := turn(i, script(t, nil, record{op: opGrow, a: pages}))
	if err != nil {
		t.Fatal(err)
	}
	return results(out, 1)[0]
}

// What one asks for in vain is no reason to refuse another what there is.
func TestGrowthThatIsRefusedIsInNobodysWay(t *testing.T) {
	var l ledger
	l.limit.Store(100 << 20)
	stop := make(chan struct{})
	var greedy sync.WaitGroup
	for range 2 {
		greedy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if l.grow(&l.mapped, 1<<30, 0) {
						t.Error("there was room for 1 GiB")
						return
					}
				}
			}
		})
	}
	for range 100_000 {
		if !l.grow(&l.mapped, pageSize, 0) {
			t.Error("there was no room for a page")
			break
		}
		l.grown.Add(-pageSize)
		l.mapped.Add(-pageSize)
	}
	close(stop)
	greedy.Wait()
	if l.held() != 0 {
		t.Errorf("%d bytes are held", l.held())
	}
}

// Whatever becomes of instances, the ledger ends where it began.
func TestTheLedgerBalances(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		e := newEngine(t, cfg)
		m := mustLoad(t, e, "hostcalls.wasm")
		plain := mustLoad(t, e, "hostile/table_grow.wasm")
		e.Trim()
		if mem := e.Memory(); e.Held() != 0 || mem.Live+mem.Idle+mem.Folded+mem.Grown != 0 {
			t.Fatalf("after loading: %+v, %d held", mem, e.Held())
		} else if mem.Code < 1000 || mem.Templates < slot.Page {
			t.Errorf("%+v", mem)
		}
		var all []*Instance
		for n := range 20 {
			i := instantiate(t, m, noHost{}, Options{})
			all = append(all, i)
			before := e.Held()
			switch n % 5 {
			case 0:
				if grow(t, i, 16) != 4 {
					t.Fatal("it does not grow")
				}
				if by := e.Held() - before; by < 16*pageSize-unmeasured {
					t.Errorf("16 pages count %d bytes", by)
				}
			case 1:
				grow(t, i, 2)
				i.Rest()
				if by := e.Held() - before; by > 16<<10 {
					t.Errorf("at rest it takes %d bytes more", by)
				}
			case 2:
				grow(t, i, 0)
				i.Rest()
				grow(t, i, 3)
			case 3:
				if err := i.Turn(call("x", nil), time.Now().Add(-time.Second), &abi.Output{}); err == nil {
					t.Error("a turn without time succeeded")
				}
			}
		}
		p := instantiate(t, plain, noHost{}, Options{})
		if mem := e.Memory(); mem.Live != 17 || mem.Folded != 4 || mem.Grown < 16*pageSize {
			t.Errorf("%+v", mem)
		}
		for _, i := range append(all, p) {
			i.Close()
		}
		if e.Memory().Idle == 0 {
			t.Error("nothing is kept for instances to come")
		}
		e.Trim()
		if mem := e.Memory(); e.Held() != 0 || mem.Live+mem.Idle+mem.Folded+mem.Grown != 0 {
			t.Errorf("%+v, %d held", mem, e.Held())
		}
	})
}

// Growth beyond what the node has is refused, at once, and counted; those that have hardly grown still may, and what rests comes back.
func TestGrowthIsAdmitted(t *testing.T) {
	bothSlots(t, func(t *testing.T, cfg Config) {
		e := newEngine(t, cfg)
		m := mustLoad(t, e, "hostcalls.wasm")
		var alarms atomic.Int64
		e.Alarm(func() { alarms.Add(1) })
		resting := instantiate(t, m, noHost{}, Options{})
		grow(t, resting, 14)
		resting.Rest()
		large, small := instantiate(t, m, noHost{}, Options{}), instantiate(t, m, noHost{}, Options{})
		kept := instantiate(t, m, noHost{}, Options{})
		kept.Close()
		e.Limit(e.Held()+64*pageSize, 4*pageSize, e.Held()+32*pageSize)
		if grow(t, large, 31) < 0 || alarms.Load() != 0 {
			t.Errorf("it does not grow; %d alarms", alarms.Load())
		}
		if grow(t, large, 31) < 0 || alarms.Load() != 1 {
			t.Errorf("it does not grow; %d alarms", alarms.Load())
		}
		if grow(t, large, 20) != -1 || e.Memory().Refused != 1 || alarms.Load() < 2 {
			t.Errorf("%+v, %d alarms", e.Memory(), alarms.Load())
		}
		if fail := large.failure("the turn", &breach{"it broke"}); fail.Code != abi.ErrLimitExceeded || !strings.Contains(fail.Message, "out of memory (node)") {
			t.Errorf("%v", fail)
		}
		if e.Memory().Idle != 0 {
			t.Error("memory is kept while guests ask for it")
		}
		if grow(t, small, 3) < 0 || grow(t, small, 30) != -1 {
			t.Error("the reserve is not for the modest, or for all")
		}
		e.Limit(1, 0, 0)
		if grow(t, resting, 0) != 18 {
			t.Error("an actor that rested does not have its memory again")
		}
		grown := capture(t, resting)
		_, err := m.Instantiate(context.Background(), noHost{}, Options{State: grown})
		if abi.CodeOf(err) != abi.ErrOverloaded {
			t.Errorf("%v", err)
		}
		if _, err := m.Instantiate(context.Background(), noHost{}, Options{State: []byte("x")}); abi.CodeOf(err) != abi.ErrStateUnusable {
			t.Errorf("%v", err)
		}
	})
}

// late is a module of the plain tier whose memory has so many pages; its first turn asks for 1,000 more.
func late(pages byte) []byte {
	const desc = "\xa2\x63abi\x82\x01\x00\x65kinds\x81\xa2\x64name\x64late\x66events\x81\x64call"
	sized := func(b ...byte) []byte { return append(leb(len(b)), b...) }
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte("\x04\x60\x00\x01\x7e\x60\x01\x7f\x01\x7f\x60\x01\x7f\x01\x7e\x60\x00\x00")),
		section(3, []byte{4, 0, 1, 2, 3}),
		section(4, []byte{1, 0x70, 0, 1}),
		section(5, []byte{1, 0, pages}),
		section(7, []byte("\x04\x06memory\x02\x00\x0fwasilo_describe\x00\x00\x0cwasilo_inbox\x00\x01\x0bwasilo_turn\x00\x02")),
		section(12, []byte{1}),
		section(10, []byte{4},
			// describe: a page more, the description to 0
			sized(0, 0x41, 1, 0x40, 0, 0x1a, 0x41, 0, 0x41, 0, 0x41, byte(len(desc)), 0xfc, 8, 0, 0, 0x42, byte(len(desc)), 0x0b),
			// inbox: 1,000 pages more, at 4096; unreachable if there are none
			sized(0, 0x41, 0xe8, 0x07, 0x40, 0, 0x41, 0x7f, 0x46, 0x04, 0x40, 0x00, 0x0b, 0x41, 0x80, 0x20, 0x0b),
			// turn: an empty reply, which the first byte of zero is
			sized(0, 0x42, 1, 0x0b),
			// what makes it plain: table.grow
			sized(0, 0xd0, 0x70, 0x41, 1, 0xfc, 15, 0, 0x1a, 0x0b)),
		section(11, []byte{1, 1}, sized([]byte(desc)...)))
}

// What a guest asks for in a turn is growth, also if it is the first memory that it has.
func TestGrowthFromNothingIsAdmitted(t *testing.T) {
	const asked = 1000 * pageSize
	for _, pages := range []byte{0, 1} {
		e := newEngine(t, Config{})
		m, err := e.Load(context.Background(), late(pages))
		if err != nil {
			t.Fatal(err)
		}
		if m.template != nil {
			t.Fatal("it is not plain")
		}
		i, refused := instantiate(t, m, noHost{}, Options{}), instantiate(t, m, noHost{}, Options{})
		before := e.Held()
		e.Limit(before+asked+asked/2, 0, 0)
		if out, err := turn(i, call("x", nil)); err != nil || out.Kind != abi.OutReply {
			t.Errorf("%d pages: %+v, %v", pages, out, err)
		}
		if mem := e.Memory(); mem.Grown < asked || e.Held()-before != mem.Grown {
			t.Errorf("%d pages: %+v, %d held, before %d", pages, mem, e.Held(), before)
		}
		_, err = turn(refused, call("x", nil))
		if abi.CodeOf(err) != abi.ErrLimitExceeded || !strings.Contains(err.Error(), "out of memory (node)") || e.Memory().Refused != 1 {
			t.Errorf("%d pages: %v, %+v", pages, err, e.Memory())
		}
		i.Close()
		refused.Close()
		e.reaping.Wait()
		if mem := e.Memory(); e.Held() != 0 || mem.Live+mem.Grown != 0 {
			t.Errorf("%d pages: %+v, %d held", pages, mem, e.Held())
		}
		m.Close()
	}
}

func capture(t *testing.T, i *Instance) []byte {
	t.Helper()
	state, err := i.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// A kind's typical weight comes from what its actors have written, and rises faster than it falls.
func TestGaugesFollow(t *testing.T) {
	e := newEngine(t, Config{})
	m := mustLoad(t, e, "hostcalls.wasm")
	g := m.Gauge("a")
	if g != m.Gauge("a") || g == m.Gauge("b") || g.Weight() != 0 {
		t.Error("gauges are mixed up")
	}
	i := instantiate(t, m, noHost{}, Options{Gauge: g})
	grow(t, i, 10) // the first turn of the first instances is measured
	if w := g.Weight(); w < 10*pageSize {
		t.Errorf("an instance of more than 640 KiB weighs %d", w)
	}
	if m.Gauge("b").Weight() != 0 {
		t.Error("another kind learns from it")
	}
	var at atomic.Int64
	for _, step := range []struct{ see, want int64 }{{800, 800}, {1600, 1200}, {1200, 1200}, {400, 1100}, {1300, 1200}} {
		if follow(&at, step.see); at.Load() != step.want {
			t.Errorf("after %d it is %d, want %d", step.see, at.Load(), step.want)
		}
	}
	if (&Gauge{}).expect(slot.Page) != slot.Page {
		t.Error("more is expected than there is")
	}
}
