package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// FuzzPath checks that a path means one actor or none: what parses comes back from the escaped form of its target, and
// the number of segments decides, never what is in them.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"echo/a/m", "echo/a%2Fb/m", "echo/%2e%2E/m", "echo/é%2F/m", "echo//m", "echo/%zz/m", "echo/a/b/m",
		"%", "//", "e/%00/m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		u, err := url.ParseRequestURI("/v1/actors/" + rest)
		if err != nil {
			return // net/http answers these by itself
		}
		raw, ok := strings.CutPrefix(rawPath(u), actorsPath+"/")
		if !ok {
			t.Fatalf("%q reads as %q", rest, rawPath(u))
		}
		p, err := splitActorPath(raw)
		if err != nil {
			return
		}
		if n := strings.Count(raw, "/"); n != 2 {
			t.Fatalf("%d slashes in %q", n, raw)
		}
		target, err := p.target()
		if err != nil {
			if abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Fatal(err)
			}
			return
		}
		again, err := url.ParseRequestURI(CallPath(target, p.method))
		if err != nil {
			t.Fatal(err)
		}
		q, err := splitActorPath(strings.TrimPrefix(rawPath(again), actorsPath+"/"))
		if err != nil || q != p {
			t.Fatalf("%+v came back as %+v, %v", p, q, err)
		}
	})
}

// FuzzHeaders checks that no header makes the gateway panic or pass on what an envelope may not hold.
func FuzzHeaders(f *testing.F) {
	f.Add("application/json;q=0.5, */*", "application/cbor", "1500ms", "active", "true", "k",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1,b@c=2")
	f.Add(";q=,", "a/b;c", "9e99h", "", "0", "\xff",
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", strings.Repeat("a=1,", 200))
	f.Fuzz(func(t *testing.T, accept, contentType, timeout, ifs, oneWay, key, parent, state string) {
		h := http.Header{"Accept": {accept}, "Content-Type": {contentType}, HeaderTimeout: {timeout}, HeaderIf: {ifs},
			HeaderOneWay: {oneWay}, HeaderIdempotency: {key}, "Traceparent": {parent}, "Tracestate": {state, state}}
		in, err := bodyFormat(h)
		if err == nil {
			_, err = replyFormat(h, in)
		}
		if err != nil && abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Fatal(err)
		}
		if q := acceptQuality(h["Accept"], "json"); q < 0 || q > 1000 {
			t.Fatalf("q %d", q)
		}
		if o, err := parseOptions(h); err == nil {
			if o.timeout < 0 || timeout != "" && o.timeout == 0 || len(o.idempotency) > abi.MaxIdempotencyLen {
				t.Fatalf("%+v", o)
			}
		}
		p, s := traceContext(h)
		if p != "" && p != parent || p == "" && s != "" || len(p) > abi.MaxTraceLen || len(s) > abi.MaxTraceLen {
			t.Fatalf("%q %q", p, s)
		}
	})
}

// FuzzLoopbackHost: whatever a Host or an Origin says, it is taken for this machine only if the address that it names is, or localhost.
func FuzzLoopbackHost(f *testing.F) {
	for _, s := range []string{"localhost:80", "LocalHost", "127.0.0.1:7700", "[::1]", "[::1]:80", "::1:80", "127.1.2.3", "[::ffff:127.0.0.1]:1", "127.0.0.1.evil",
		"[::1", "[::1]x", "localhost:99999", ":80", "[]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !loopbackHost(host) {
			return
		}
		name := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if h, port, err := net.SplitHostPort(host); err == nil {
			if name = h; port == "" {
				t.Fatalf("%q has an empty port", host)
			}
		}
		if strings.EqualFold(name, "localhost") {
			return
		}
		if ip, err := netip.ParseAddr(name); err != nil || !ip.Unmap().IsLoopback() {
			t.Fatalf("%q is taken for this machine", host)
		}
	})
}

// FuzzCursor: a cursor is refused as an argument, or is of an actor, whose own cursor means the same.
func FuzzCursor(f *testing.F) {
	f.Add(cursor(ActorInfo{Kind: "counter", ID: "a/b"}))
	f.Add(cursor(ActorInfo{Kind: "c", ID: "é"}))
	f.Add("Yy9hYg==")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseCursor(s)
		if err != nil {
			if abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if again, err := parseCursor(cursor(ActorInfo{Kind: id.Kind(), ID: id.ID()})); err != nil || again != id {
			t.Fatalf("%q is of %v, its own of %v, %v", s, id, again, err)
		}
	})
}
