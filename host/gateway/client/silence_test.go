package client_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// stopped is a client of a node whose connections take what is sent. answer, which may be nil, says after how long a path is answered, and
// with what; without it, or before that, nothing comes.
func stopped(t *testing.T, answer func(path string) (after time.Duration, body string)) *client.Client {
	t.Helper()
	serve := func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if answer == nil {
				continue
			}
			after, body := answer(r.URL.Path)
			time.Sleep(after)
			resp := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(body)),
				ContentLength: int64(len(body))}
			if resp.Write(conn) != nil {
				return
			}
		}
	}
	c, err := client.New(client.Config{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go serve(far)
		return near, nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestANodeThatDoesNotAnswer(t *testing.T) {
	a := identity(t, "echo/a")
	for name, ask := range map[string]func(context.Context, *client.Client) error{
		"kinds":   func(ctx context.Context, c *client.Client) error { _, err := c.Kinds(ctx); return err },
		"members": func(ctx context.Context, c *client.Client) error { _, err := c.Members(ctx); return err },
		"ps": func(ctx context.Context, c *client.Client) error {
			_, err := c.Actors(ctx, client.ActorsQuery{})
			return err
		},
		"voters": func(ctx context.Context, c *client.Client) error { _, err := c.Voters(ctx); return err },
		"add":    func(ctx context.Context, c *client.Client) error { _, err := c.AddVoter(ctx, "n4", true); return err },
		"rm": func(ctx context.Context, c *client.Client) error {
			_, err := c.RemoveVoter(ctx, "n4", true)
			return err
		},
		"drain":   func(ctx context.Context, c *client.Client) error { _, err := c.Drain(ctx, false); return err },
		"drained": func(ctx context.Context, c *client.Client) error { _, err := c.Drained(ctx); return err },
		"block":   func(ctx context.Context, c *client.Client) error { _, err := c.Block(ctx, "n2", false); return err },
		"ready":   func(ctx context.Context, c *client.Client) error { _, err := c.Ready(ctx); return err },
		"call": func(ctx context.Context, c *client.Client) error {
			_, err := c.CallJSON(ctx, a, "m", nil, client.CallOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := stopped(t, nil)
				defer c.Close()
				began := time.Now()
				limit, cancel := context.WithCancel(t.Context())
				defer cancel()
				hang := time.AfterFunc(time.Hour, cancel)
				defer hang.Stop()
				err := ask(limit, c)
				if !errors.Is(err, abi.ErrTimeout) || !strings.Contains(err.Error(), "the node at "+client.DefaultURL+" accepts connections and does not answer") {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took != 30*time.Second {
					t.Errorf("after %v", took)
				}
			})
		})
	}
}

// A node whose system takes no further connection is silent, one that refuses them closes.
func TestACallWhoseNodeTakesNoFurtherConnection(t *testing.T) {
	for name, refuses := range map[string]bool{"full": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dials atomic.Int32
				c, err := client.New(client.Config{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					switch {
					case dials.Add(1) == 1:
						near, far := net.Pipe()
						go func() { _, _ = io.Copy(io.Discard, far); far.Close() }()
						return near, nil
					case refuses:
						return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
					}
					<-ctx.Done()
					return nil, ctx.Err()
				}}})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				hang := time.AfterFunc(time.Hour, cancel)
				defer hang.Stop()
				began := time.Now()
				_, err = c.CallJSON(ctx, identity(t, "echo/a"), "m", nil, client.CallOptions{})
				want, most := abi.ErrTimeout, 30*time.Second
				if refuses {
					want, most = abi.ErrCanceled, time.Hour
				}
				if took := time.Since(began); !errors.Is(err, want) || took != most {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

// A call without a time waits as long as the node does, and lives; a time that somebody names counts alone.
func TestACallWaitsForANodeThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		c := stopped(t, func(path string) (time.Duration, string) {
			if path == "/livez" {
				asked.Add(1)
				return time.Second, `{"live":true}`
			}
			return time.Hour, "7"
		})
		defer c.Close()
		reply, err := c.CallJSON(t.Context(), identity(t, "echo/a"), "m", nil, client.CallOptions{})
		if err != nil || string(reply) != "7" || asked.Load() < 100 {
			t.Errorf("%s %v, asked %d times", reply, err, asked.Load())
		}
		asked.Store(0)
		_, err = c.CallJSON(t.Context(), identity(t, "echo/a"), "m", nil, client.CallOptions{Timeout: time.Minute})
		if !errors.Is(err, abi.ErrTimeout) || !strings.Contains(err.Error(), "in time") || asked.Load() > 0 {
			t.Errorf("%v, asked %d times", err, asked.Load())
		}
		time.Sleep(2 * time.Hour) // until the node has heard that nobody waits
	})
}
