package main

import (
	"bytes"
	"context"
	"fmt"
	"github.com/wasilo/wasilo/host"
	"io"
	"net"
	"net/http"
	"time"
)

const httpNote = "`POST /v1/actors/…` over loopback with kept connections, client and server in one process. The floor is net/http alone:\n" +
	"a handler that reads the same body and writes the same answer. `fresh` is the first request to an identity."

func httpCases(ctx context.Context, b *bench) ([]*measure, error) {
	n, err := startNode(ctx, b, "127.0.0.1:0", host.Limits{Idle: time.Hour}, "echo.wasm", "examples.wasm")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	plain := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})}
	go func() { _ = plain.Serve(l) }()
	b.onEnd(func() { plain.Close() })
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 2048, MaxIdleConnsPerHost: 2048}}
	b.onEnd(client.CloseIdleConnections)
	post := func(ctx context.Context, url string, body []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, out)
		}
		return err
	}
	echo := []byte(`{"text":"` + string(bytes.Repeat([]byte("x"), payloadSize-11)) + `"}`)
	var rows []*measure
	for _, callers := range []int{1, 64} {
		floor := &measure{name: "floor net/http", callers: callers, op: func(ctx context.Context, _, _ int) error {
			return post(ctx, "http://"+l.Addr().String()+"/", echo)
		}}
		rows = append(rows, floor,
			&measure{name: "echo, 1 actor", callers: callers, floor: floor, op: func(ctx context.Context, _, _ int) error {
				return post(ctx, n.URL()+"/v1/actors/echo/hot/echo", echo)
			}},
			&measure{name: "Go counter, 1 actor", callers: callers, floor: floor, op: func(ctx context.Context, _, _ int) error {
				return post(ctx, n.URL()+"/v1/actors/counter/hot/add", []byte(`{"by":1}`))
			}})
	}
	reset := func() error { return n.Passivate(ctx) }
	rows = append(rows,
		&measure{name: "fresh echo", callers: 1, most: 2000, reset: reset, floor: rows[0], op: func(ctx context.Context, _, _ int) error {
			return post(ctx, fmt.Sprintf("%s/v1/actors/echo/f%d/echo", n.URL(), fresh.Add(1)), echo)
		}},
		&measure{name: "fresh Go counter", callers: 1, most: 200, reset: reset, floor: rows[0], op: func(ctx context.Context, _, _ int) error {
			return post(ctx, fmt.Sprintf("%s/v1/actors/counter/f%d/add", n.URL(), fresh.Add(1)), []byte(`{"by":1}`))
		}})
	return rows, nil
}
