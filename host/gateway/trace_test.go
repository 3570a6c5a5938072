package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for s, want := range map[string]bool{
		good:                      true,
		"cc" + good[2:]:           true,
		"cc" + good[2:] + "-what": true,
		good + "-what":            false,
		"cc" + good[2:] + "what":  false,
		"cc" + good[2:] + "-a\tb": false,
		"ff" + good[2:]:           false,
		strings.ToUpper(good):     false,
		good[:54]:                 false,
		"":                        false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": false,
		"cc" + good[2:] + "-" + strings.Repeat("x", 500):          false,
	} {
		if validTraceparent(s) != want {
			t.Errorf("%q: not %v", s, want)
		}
	}
}

func TestTracestate(t *testing.T) {
	members := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("k%d=v", i))
		}
		return strings.Join(list, ",")
	}
	for s, want := range map[string]bool{
		"":                              true,
		"a=1":                           true,
		" a=1 , b_-*/9=x y":             true,
		"a=1,,b=2,":                     true,
		"fw529a3039@dt=FfffffeC":        true,
		"0tenant@sys=1":                 true,
		members(32):                     true,
		members(33):                     false,
		"a=1,a=2":                       false,
		"a":                             false,
		"=1":                            false,
		"a=":                            false,
		"A=1":                           false,
		"0a=1":                          false,
		"a@=1":                          false,
		"@a=1":                          false,
		"_t@a=1":                        false,
		"a@0b=1":                        false,
		"a@b@c=1":                       false,
		"a=b=c":                         false,
		"a=é":                           false,
		strings.Repeat("a", 257) + "=1": false,
	} {
		if validTracestate(s) != want {
			t.Errorf("%q: not %v", s, want)
		}
	}
	long := "first=" + strings.Repeat("x", 250) + ",second=" + strings.Repeat("y", 250) + ",third=z"
	if got := fitTracestate(long); len(got) > abi.MaxTraceLen || !strings.HasPrefix(long, got+",") || !strings.HasPrefix(got, "first=") {
		t.Errorf("%d bytes left: %.20s", len(got), got)
	}
}

// BenchmarkCall is the gateway's own share of a call, without sockets.
func BenchmarkCall(b *testing.B) {
	by := abi.Field{Name: "by", Schema: &abi.Schema{Type: abi.TypeInt}}
	method := record("add", by)
	node := &benchNode{method: method}
	g := New(Config{Node: node})
	for _, format := range []struct{ name, media, body string }{{"json", TypeJSON, `{"by":1}`}, {"cbor", TypeCBOR, "\xa1\x62by\x01"}} {
		b.Run(format.name, func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest("POST", "http://localhost/v1/actors/counter/alice/add", nil)
			r.Header.Set("Content-Type", format.media)
			r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			r.ContentLength = int64(len(format.body))
			body := strings.NewReader(format.body)
			r.Body = io.NopCloser(body)
			w := &nullWriter{header: http.Header{}}
			for b.Loop() {
				body.Reset(format.body)
				g.ServeHTTP(w, r)
			}
			if w.status != 200 {
				b.Fatal(w.status)
			}
		})
	}
}

type benchNode struct {
	fakeNode
	method *abi.Method
}

func (n *benchNode) Method(context.Context, string, string, time.Time) (*abi.Method, error) {
	return n.method, nil
}
func (n *benchNode) Send(_ context.Context, env *abi.Envelope) ([]byte, error) {
	return env.Payload, nil
}

type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
