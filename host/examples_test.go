package host

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

// The tests here drive testdata/wasm/examples.wasm, the actors that people read first, as clients do.

func examples(t *testing.T, change func(*Config)) *Node {
	cfg := Config{ActorsDir: actorsDir(t, "examples.wasm"), Limits: Limits{Turn: hang, Request: hang}} // for who waits for others
	if change != nil {
		change(&cfg)
	}
	return start(t, cfg)
}

// Transfers from everybody to everybody at once, a to b and b to a above all: no money is made or lost, nobody waits for
// anybody, and nothing is in doubt.
func TestBankConservesMoney(t *testing.T) {
	n := examples(t, nil)
	accounts := []string{"a", "b", "a", "b", "c"}
	for _, a := range accounts[2:] {
		mustCall(t, n, "bank/"+a, "deposit", `{"amount":100}`)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var done, poor atomic.Int64
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(c)))
			for i := range 60 {
				from, to := accounts[c%2], accounts[(c+1)%2]
				if i%3 == 0 {
					from, to = accounts[rnd.IntN(len(accounts))], accounts[rnd.IntN(len(accounts))]
				}
				_, err := call(n, "bank/"+from, "transfer", fmt.Sprintf(`{"to":%q,"amount":%d}`, to, 1+rnd.IntN(60)))
				switch {
				case err == nil:
					done.Add(1)
				case abi.AsError(err).App == "insufficient_funds":
					poor.Add(1)
				default:
					t.Errorf("%s to %s: %v", from, to, err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, a := range accounts[2:] {
		balance := field[int](t, mustCall(t, n, "bank/"+a, "balance", ""), "balance")
		if balance < 0 {
			t.Errorf("%s has %d", a, balance)
		}
		sum += balance
	}
	if sum != 300 || done.Load() == 0 {
		t.Errorf("%d transfers and %d refusals later there are %d, not 300", done.Load(), poor.Load(), sum)
	}
	_, err := call(n, "bank/a", "withdraw", `{"amount":1000}`)
	wantCode(t, err, abi.ErrActor, "insufficient_funds")
}

// Members that post at once: everybody's messages are there once, and in their order.
func TestChatKeepsOrder(t *testing.T) {
	n := examples(t, nil)
	_, err := call(n, "chat/room", "post", `{"from":"stranger","text":"hello"}`)
	wantCode(t, err, abi.ErrActor, "not_a_member")
	var wg sync.WaitGroup
	for m := range 4 {
		wg.Go(func() {
			name := fmt.Sprint("member", m)
			for i := range 20 {
				if i == 0 {
					mustCall(t, n, "chat/room", "join", fmt.Sprintf(`{"member":%q}`, name))
				}
				if _, err := call(n, "chat/room", "post", fmt.Sprintf(`{"from":%q,"text":"%d"}`, name, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	type message struct{ From, Text string }
	next := map[string]int{}
	for _, m := range field[[]message](t, mustCall(t, n, "chat/room", "history", ""), "messages") {
		if m.Text != fmt.Sprint(next[m.From]) {
			t.Errorf("%s of %s after %d", m.Text, m.From, next[m.From])
		}
		next[m.From]++
	}
	for m := range 4 {
		if next[fmt.Sprint("member", m)] != 20 {
			t.Errorf("%v", next)
		}
	}
}

// However many ask at once, a bucket has ten tokens and what flows in meanwhile.
func TestRatelimitUnderLoad(t *testing.T) {
	n := examples(t, nil)
	var allowed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 8 {
		wg.Go(func() {
			for range 10 {
				out, err := call(n, "ratelimit/x", "take", `{"n":1}`)
				if err != nil {
					t.Error(err)
				} else if strings.Contains(out, `"allowed":true`) {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got, most := allowed.Load(), 10+int64(time.Since(began)/time.Second)+1; got < 10 || got > most {
		t.Errorf("%d were allowed, want 10 to %d", got, most)
	}
}

// An actor that nobody calls goes to sleep, and goes on where it was.
func TestIdleGuestsSleep(t *testing.T) {
	n := examples(t, func(c *Config) {
		c.Kinds = map[string]KindLimits{"counter": {Idle: 50 * time.Millisecond}}
	})
	mustCall(t, n, "counter/c", "add", `{"by":5}`)
	mustCall(t, n, "chat/stays", "join", `{"member":"m"}`)
	eventually(t, "a passivated counter", func() bool {
		return len(n.Actors(gateway.ActorQuery{Kind: "counter", State: gateway.ActorsActive, Limit: 10}).Actors) == 0
	})
	eventually(t, "one activation", func() bool { return n.silo.Stats().Activations == 1 }) // counted after it is listed no more
	if v := field[int](t, mustCall(t, n, "counter/c", "get", ""), "value"); v != 5 {
		t.Errorf("the counter came back with %d", v)
	}
	if err := n.Passivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing active", func() bool { // the counter may have been on its way to sleep by itself
		st := n.silo.Stats()
		return st.Activations == 0 && st.Bytes == 0
	})
}

// A kind may have more memory than the others, and no less than it says.
func TestAKindWithMemoryOfItsOwn(t *testing.T) {
	for _, memory := range []uint64{128 << 20, 1 << 20} {
		n := start(t, Config{ActorsDir: actorsDir(t, "echo.wasm", "hostcalls.wasm"), Kinds: map[string]KindLimits{"echo": {Memory: memory}}})
		if got := mustCall(t, n, "echo/a", "echo", "1"); got != "1" {
			t.Errorf("%d bytes: %s", memory, got)
		}
	}
}
