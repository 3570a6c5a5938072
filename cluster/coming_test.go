package cluster

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// A kind that nobody hosts yet and that may be there in a moment is waited for.
func TestAKindThatIsComingIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over atomic.Bool
		asked := make(chan string, 1000)
		n := start(t, func(c *Config) {
			c.Kinds = nil
			c.Retry = RetryPolicy{Attempts: 1, Initial: time.Millisecond, Max: time.Millisecond}
			c.Coming = func(kind string) string {
				select {
				case asked <- kind:
				default:
				}
				if over.Load() || kind != "chat" && kind != "late" {
					return ""
				}
				return "chat.wasm is on its way"
			}
		})
		if _, err := n.request("nosuch/a"); !errors.Is(err, ErrKindNotRegistered) {
			t.Errorf("another kind: %v", err)
		}
		_, err := n.API().Request(t.Context(), id("chat/a"), Message{Method: "get", Timeout: 10 * time.Millisecond})
		if abi.CodeOf(err) != abi.ErrNotReady || !abi.CodeOf(err).Retryable() || !strings.Contains(err.Error(), "chat.wasm is on its way") {
			t.Errorf("its time is over: %v", err)
		}

		for len(asked) > 0 {
			<-asked
		}
		var wg sync.WaitGroup
		wg.Go(func() { n.ok("chat/a") })
		wg.Go(func() {
			f, err := n.API().RequestFuture(t.Context(), id("chat/b"), Message{Method: "get", Payload: []byte("x")})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := f.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			done := make(chan error, 1)
			if err := n.API().Post(env("chat/c"), func(_ []byte, err error) { done <- err }); err != nil {
				t.Error(err)
				return
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := n.request("late/a"); !errors.Is(err, ErrKindNotRegistered) {
				t.Errorf("a kind that did not come: %v", err)
			}
		})
		for range 8 {
			<-asked
		}
		if err := n.Runtime().SetKinds([]Kind{{"chat"}}); err != nil {
			t.Fatal(err)
		}
		over.Store(true)
		wg.Wait()
	})
}
