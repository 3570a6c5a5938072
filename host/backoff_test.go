package host

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
)

// page reads a page of the node's.
func page(t *testing.T, n *Node, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(n.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %s", w, text)
		}
	}
}

// A kind that does not start backs off, shows wherever an operator looks, does not make the node unready, and is well again by itself.
func TestKindThatDoesNotStartIsShown(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	sick := nativeKind("sick", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error { return replyWith(out, ev.Payload) })
	well, heal := sick, sick.New
	well.Desc.Name = "well"
	sick.New = func(h *actor.Host) (actor.Instance, error) {
		if broken.Load() {
			return nil, errors.New("no database at db:5432")
		}
		return heal(h)
	}
	log := &lines{}
	n := start(t, Config{HTTP: "127.0.0.1:0", Log: log.logger(), Native: []NativeKind{sick, well}})
	if _, text := page(t, n, "/metrics"); !strings.Contains(text, `wasilo_kind_backoff{kind="sick"} 0`) {
		t.Error(text)
	}
	for _, who := range []string{"sick/a", "sick/b", "sick/c"} {
		_, err := call(n, who, "m", "1")
		wantCode(t, err, abi.ErrActivationFailed, "no database at db:5432")
	}
	for deadline := time.Now().Add(hang); ; { // a trial may come in between
		_, err := call(n, "sick/d", "m", "1")
		if abi.CodeOf(err) == abi.ErrOverloaded {
			wantWords(t, err.Error(), "starts of kind sick are held back", "no database")
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}

	status, text := page(t, n, "/readyz?verbose")
	if status != 200 {
		t.Errorf("status %d", status)
	}
	wantWords(t, text, `"ready":true`, `{"name":"kind sick","ok":false,"detail":"it backs off after `, `no database at db:5432"}`)
	if status, text = page(t, n, "/readyz"); status != 200 || text != "{\"ready\":true}\n" {
		t.Errorf("%d %s", status, text)
	}
	_, text = page(t, n, "/v1/kinds")
	wantWords(t, text, `"backoff":{"failures":`, `"error":"no database at db:5432"`)
	if strings.Count(text, "backoff") != 1 {
		t.Error(text)
	}
	_, text = page(t, n, "/metrics")
	wantWords(t, text, `wasilo_kind_backoff{kind="sick"} 1`, `wasilo_kind_backoff{kind="well"} 0`,
		`wasilo_actor_errors_total{code="overloaded",kind="sick"} `, `wasilo_actor_errors_total{code="overloaded",kind="well"} 0`)
	mustCall(t, n, "well/x", "m", "1")

	broken.Store(false)
	for deadline := time.Now().Add(hang); ; {
		_, err := call(n, "sick/a", "m", "1")
		if err == nil {
			break
		}
		if wantCode(t, err, abi.ErrOverloaded); time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	mustCall(t, n, "sick/b", "m", "1")
	if _, text = page(t, n, "/readyz?verbose"); strings.Contains(text, "kind sick") {
		t.Error(text)
	}
	if log.find("a kind does not start") == "" || log.find("no longer held back") == "" {
		t.Errorf("%q", log.all)
	}
}

func TestBackoffInWords(t *testing.T) {
	for _, c := range []struct {
		b    gateway.BackoffInfo
		want string
	}{
		{gateway.BackoffInfo{Failures: 5, WaitMS: 3210, Error: "e"}, "backs off after 5 failed starts, next try in 3.2s: e"},
		{gateway.BackoffInfo{Failures: 5, WaitMS: 50, Error: "e"}, "backs off after 5 failed starts, next try in 50ms: e"},
		{gateway.BackoffInfo{Failures: 5, Error: "e"}, "backs off after 5 failed starts, the next one is tried: e"},
		{gateway.BackoffInfo{Failures: 5, Trying: true, Error: "e"}, "backs off after 5 failed starts, one is tried just now: e"},
		{gateway.BackoffInfo{Actor: "k/a", Actors: 1, Failures: 3, Error: "e"}, "backs off for k/a after 3 failed starts, the next one is tried: e"},
		{gateway.BackoffInfo{Actor: "k/a", Actors: 2, Failures: 3, Error: "e"},
			"backs off for 2 actors, among them k/a after 3 failed starts, the next one is tried: e"},
	} {
		if got := c.b.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Whoever calls from another node hears it as soon as one who calls from this one, and its node does not ask again and again.
func TestKindThatDoesNotStartOnAnotherNode(t *testing.T) {
	p := newParty(t)
	var starts atomic.Int64
	sick := counting("sick")
	sick.New = func(*actor.Host) (actor.Instance, error) {
		starts.Add(1)
		return nil, errors.New("no database")
	}
	p.add(p.config("n1", sick))
	cfg := p.config("desk")
	cfg.Net.Mode = cluster.Client
	desk := p.add(cfg)
	p.agree()
	refused := 0
	const wait = 5 * hang
	began := time.Now()
	for i := range 300 {
		_, err := callFor(desk, "sick/"+strconv.Itoa(i), "add", "", wait)
		switch abi.CodeOf(err) {
		case abi.ErrOverloaded:
			wantWords(t, err.Error(), "kind sick are held back", "no database")
			refused++
		case abi.ErrActivationFailed:
		default:
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > wait/2 {
		t.Errorf("300 calls took %v: one waited for its deadline", took)
	}
	if n := starts.Load(); int(n) != 300-refused || n > 30 {
		t.Errorf("%d starts, and %d of 300 calls refused", n, refused)
	}
	if held := p.nodes["n1"].silo.HeldBack("sick"); int(held) != refused {
		t.Errorf("the node was asked %d times more than it answered", int(held)-refused)
	}
}
