package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Who waits is let in, also where the time is over before anybody looks, as on a machine that has others to run.
func TestADoorThatIsShutLetsThoseInWhoWait(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := newDoor(l, New(Config{Node: &fakeNode{}}).crowd)
	d.settle = -time.Second
	d.shut()
	c, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Clients that connect anew for every call, without a pause, are each answered or refused: none is cut off in between.
func TestShutdownCutsNobodyOff(t *testing.T) {
	const clients, before = 32, 500
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "127.0.0.1:0"} {
		var calls atomic.Int32
		flowing := make(chan struct{})
		g := New(Config{Node: &fakeNode{send: func(context.Context, *abi.Envelope) ([]byte, error) {
			if calls.Add(1) == before {
				close(flowing)
			}
			return []byte{0x01}, nil
		}}})
		g.linger = time.Minute // as long as it takes to answer all who were let in
		l, err := Listen(t.Context(), addr)
		if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Logf("without %s, which this machine lacks", addr)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- g.Serve(l) }()
		call := func() error {
			r, err := http.NewRequest("POST", "http://"+l.Addr().String()+"/v1/actors/echo/a/m", strings.NewReader("{}"))
			if err != nil {
				return err
			}
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "1\n" {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		}
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for {
					if err := call(); err != nil {
						if !errors.Is(err, syscall.ECONNREFUSED) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		<-flowing
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}
