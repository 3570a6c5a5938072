package host

import (
	"net"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
)

// The node's gateway has the places that the configuration says, and the figures tell of them, for which no place is needed.
func TestConnsOfTheGatewayAreLimited(t *testing.T) {
	echo := nativeKind("echo", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error { return replyWith(out, ev.Payload) })
	n := start(t, Config{HTTP: "127.0.0.1:0", Native: []NativeKind{echo}, Limits: Limits{MaxConns: 1}})
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /")); err != nil { // under a request for as long as its headers may take
		t.Fatal(err)
	}
	status, text := page(t, n, "/metrics")
	if wantWords(t, text, "wasilo_http_connections 2", "wasilo_http_connections_max 1", "wasilo_http_connections_refused_total 0"); status != 200 {
		t.Error(status)
	}
	if _, err := New(Config{Limits: Limits{MaxConns: -1}}); err == nil || !strings.Contains(err.Error(), "limits.max_conns") {
		t.Error(err)
	}
	if n, err := New(Config{}); err != nil || n.cfg.Limits.MaxConns < 1 {
		t.Error(err)
	}
}
