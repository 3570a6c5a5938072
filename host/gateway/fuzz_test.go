package gateway

import (
	"net/http"
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
