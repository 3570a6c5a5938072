package host

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

// asleep waits until an actor is listed as sleeping.
func asleep(t *testing.T, n *Node, actor string) {
	t.Helper()
	eventually(t, actor+" asleep", func() bool {
		return slices.ContainsFunc(n.Actors(gateway.ActorQuery{State: gateway.ActorSleeping, Limit: 100}).Actors, func(a gateway.ActorInfo) bool {
			return a.Kind+"/"+a.ID == actor && a.Size > 0 && !a.Last.IsZero() && a.Since.IsZero()
		})
	})
}

// The examples keep their state while nobody asks for them.
func TestExamplesHibernate(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t, "examples.wasm"), Limits: Limits{Hibernate: 50 * time.Millisecond}})
	for i := range 3 {
		if got := mustCall(t, n, "counter/c", "add", `{"by":2}`); got != fmt.Sprintf(`{"value":%d}`, 2*(i+1)) {
			t.Errorf("%s", got)
		}
		asleep(t, n, "counter/c")
	}
	mustCall(t, n, "chat/room", "join", `{"member":"ann"}`)
	asleep(t, n, "chat/room")
	mustCall(t, n, "chat/room", "post", `{"from":"ann","text":"hello"}`)
	asleep(t, n, "chat/room")
	if got := mustCall(t, n, "chat/room", "history", ""); got != `{"messages":[{"from":"ann","text":"hello"}]}` {
		t.Errorf("%s", got)
	}
	mustCall(t, n, "bank/ann", "deposit", `{"amount":10}`)
	asleep(t, n, "bank/ann")
	mustCall(t, n, "bank/ann", "transfer", `{"to":"bob","amount":4}`)
	if got := mustCall(t, n, "bank/bob", "balance", ""); got != `{"balance":4}` {
		t.Errorf("%s", got)
	}
	if err := n.Passivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustCall(t, n, "bank/ann", "balance", ""); got != `{"balance":6}` {
		t.Errorf("%s", got)
	}
	s := n.snapshot()
	if s.Sleepers == 0 || s.Asleep == 0 || s.Kinds[0].Hibernations == 0 || s.Kinds[0].Wakes == 0 {
		t.Errorf("%+v", s)
	}
}

// A deploy gives up what sleeps, and says so.
func TestADeployGivesUpWhatSleeps(t *testing.T) {
	var log lines
	dir := actorsDir(t, "examples.wasm")
	n := start(t, Config{ActorsDir: dir, Watch: true, Log: log.logger(), Limits: Limits{Hibernate: 50 * time.Millisecond}})
	mustCall(t, n, "counter/c", "add", `{"by":2}`)
	asleep(t, n, "counter/c")
	before := version(n, "counter")
	variant(t, "examples.wasm", filepath.Join(dir, "examples.wasm"), 1)
	eventually(t, "a new version", func() bool { return version(n, "counter") != before })
	if got := mustCall(t, n, "counter/c", "add", `{"by":2}`); got != `{"value":2}` {
		t.Errorf("%s", got)
	}
	eventually(t, "the count of states given up", func() bool { return n.silo.Stats().Dropped["replaced"] == 1 })
	eventually(t, "the log line of it", func() bool { return log.find("state is given up") != "" }) // after the count
}

// What hibernates goes on when it is not to hibernate before it is passivated.
func TestNeverIsUntilPassivation(t *testing.T) {
	n := start(t, Config{ActorsDir: actorsDir(t, "examples.wasm"), Limits: Limits{Hibernate: Never}})
	mustCall(t, n, "counter/c", "add", `{"by":2}`)
	if err := n.Passivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	asleep(t, n, "counter/c")
	get := func(actor string, f abi.Flags) error {
		id, err := abi.ParseIdentity(actor)
		if err != nil {
			return err
		}
		_, err = n.Send(t.Context(), &abi.Envelope{Target: id, Method: "get", Payload: []byte{0xa0}, Flags: f, Deadline: time.Now().Add(hang)})
		return err
	}
	wantCode(t, get("counter/c", abi.OnlyIfActive), abi.ErrNotActive)
	if err := get("counter/c", abi.MustExist); err != nil {
		t.Error(err)
	}
	wantCode(t, get("counter/d", abi.MustExist), abi.ErrNotActive)
}
