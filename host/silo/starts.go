package silo

import (
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
)

// sayAgain is how long the log keeps quiet about a kind that recovers and fails again.
const sayAgain = 10 * time.Second

// starts keeps what is known of a kind's starts, for the silo's life. A kind that has no failures costs an atomic load a start.
type starts struct {
	ill     atomic.Bool // there is something to remember
	refused atomic.Uint64

	mu     sync.Mutex
	back   backoff
	told   scope     // what the log has last
	toldAt time.Time // that something is held back
}

// scope is how much of a kind is held back.
type scope uint8

const (
	nothing scope = iota
	single        // actors by themselves
	all
)

// startsOf finds what is known of the starts of a kind.
func (s *Silo) startsOf(kind string) *starts {
	if k, ok := s.starts.Load(kind); ok {
		return k.(*starts)
	}
	k, _ := s.starts.LoadOrStore(kind, &starts{})
	return k.(*starts)
}

// mayStart refuses an activation whose instance would not be started now. It is asked before anything is made of it, and
// keeps nobody else from trying: whoever does not get a message never starts.
func (s *Silo) mayStart(kind *Kind, id abi.Identity) error {
	k := s.startsOf(id.Kind())
	if !k.ill.Load() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.version != kind.Version {
		if s.current(kind) {
			k.renew(s.cfg.Log, kind)
		}
		return nil
	}
	if held := k.back.holds(id, time.Now()); held != nil {
		k.refused.Add(1)
		return held.refusal(id.Kind())
	}
	return nil
}

// start starts an instance of kind if nothing holds that back, and remembers what comes of it. It is an activation's Start.
func (s *Silo) start(kind *Kind, h *actor.Host, state []byte) (inst actor.Instance, err error) {
	k, id := s.startsOf(kind.Desc.Name), h.Identity()
	try, err := k.begin(kind, id, time.Now())
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		if !returned {
			s.notStarted(k, kind, try, "it panicked, or ended its goroutine; the log says more")
		}
	}()
	inst, err = kind.Start(h, state)
	returned = true
	switch {
	case err == nil && inst != nil:
		k.started(s.cfg.Log, kind, try, time.Now())
	case err == nil:
		s.notStarted(k, kind, try, "there was neither an instance nor an error")
	case s.ctx.Err() != nil, actor.Untried(err), abi.CodeOf(err) == abi.ErrStateUnusable,
		len(state) > 0 && abi.CodeOf(err) == abi.ErrLimitExceeded: // a state too large for this node: neither says anything of the kind
		k.passed(kind, try, time.Now())
	default:
		s.notStarted(k, kind, try, err.Error())
	}
	return inst, err
}

// begin lets a start through, or says why not.
func (k *starts) begin(kind *Kind, id abi.Identity, now time.Time) (attempt, error) {
	if !k.ill.Load() {
		return attempt{id: id}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.version != kind.Version {
		return attempt{id: id}, nil
	}
	if held := k.back.holds(id, now); held != nil {
		k.refused.Add(1)
		return attempt{}, held.refusal(id.Kind())
	}
	return k.back.begin(id, now), nil
}

// current reports whether the kind still has this version. What renews the back-off asks under starts.mu: else a version that is gone could
// take the place of the new one's.
func (s *Silo) current(kind *Kind) bool {
	now, err := s.cfg.Kind(kind.Desc.Name)
	return err == nil && now.Version == kind.Version
}

// notStarted remembers a failure, unless the kind has another version by now.
func (s *Silo) notStarted(k *starts, kind *Kind, try attempt, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !s.current(kind) {
		return
	}
	if k.back.version != kind.Version {
		k.renew(s.cfg.Log, kind)
	}
	now := time.Now()
	k.back.failed(try, brief(why), now, rand.Float64())
	k.ill.Store(true)
	k.tell(s.cfg.Log, kind, now)
}

func (k *starts) started(log *slog.Logger, kind *Kind, try attempt, now time.Time) {
	if !k.ill.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.version != kind.Version {
		return
	}
	k.back.started(try, now)
	k.ill.Store(!k.back.healthy())
	k.tell(log, kind, now)
}

func (k *starts) passed(kind *Kind, try attempt, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.version == kind.Version {
		k.back.passed(try, now)
	}
}

// renew begins anew with another version of the kind. k.mu is held.
func (k *starts) renew(log *slog.Logger, kind *Kind) {
	k.back = backoff{version: kind.Version}
	k.ill.Store(false)
	k.tell(log, kind, time.Now())
	k.toldAt = time.Time{}
}

// tell logs what has changed: that something is held back, and that nothing is any more. k.mu is held.
func (k *starts) tell(log *slog.Logger, kind *Kind, now time.Time) {
	held := k.back.state(now)
	is := nothing
	switch {
	case held == nil:
	case held.Actor.IsZero():
		is = all
	default:
		is = single
	}
	switch {
	case is == k.told:
		return
	case is == nothing:
		log.Info("the kind's starts are no longer held back", "kind", kind.Desc.Name)
	case is < k.told: // the kind has recovered, but for actors of its own
	case now.Sub(k.toldAt) < sayAgain && (is == single || k.told == nothing):
		return // said later, if it lasts
	case is == single:
		log.Warn("an actor does not start: its starts are held back", "actor", held.Actor, "failures", held.Failures, "next_try_in", held.Wait,
			"err", held.Err)
		k.toldAt = now
	default:
		log.Warn("a kind does not start: its starts are held back", "kind", kind.Desc.Name, "failures", held.Failures, "next_try_in", held.Wait,
			"err", held.Err)
		k.toldAt = now
	}
	k.told = is
}

// Backoff returns what of a kind is held back, nil if nothing is.
func (s *Silo) Backoff(kind *Kind) *Backoff {
	v, ok := s.starts.Load(kind.Desc.Name)
	if !ok {
		return nil
	}
	k := v.(*starts)
	if !k.ill.Load() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.back.version != kind.Version {
		return nil
	}
	return k.back.state(time.Now())
}

// HeldBack returns how many starts of a kind were refused since earlier ones failed.
func (s *Silo) HeldBack(kind string) uint64 {
	if k, ok := s.starts.Load(kind); ok {
		return k.(*starts).refused.Load()
	}
	return 0
}

// brief bounds the text of an error that is kept and told again and again.
func brief(s string) string {
	const most = 400
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
