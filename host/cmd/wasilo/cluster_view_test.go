package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// What the nodes of a realm say of themselves and of each other, and what their actors answer: all by their gateways, as clients see
// it.

// agree waits until all nodes that are up see each other and no one else, are connected, and place each kind alike.
func (r *realm) agree() {
	r.t.Helper()
	ids := slices.Sorted(maps.Keys(r.up))
	for _, id := range ids {
		r.until(id+" agrees that there are "+strings.Join(ids, ", "), func() (bool, any) {
			if alive, problems := r.up[id].sees(); !slices.Equal(alive, ids) || len(problems) > 0 {
				return false, []any{alive, problems}
			}
			mine, first := r.up[id].hosts(), r.up[ids[0]].hosts()
			return mine == first, []any{mine, first}
		})
	}
}

// sees returns who is there according to m, and what is wrong with them.
func (m *member) sees() (alive, problems []string) {
	list, err := m.http.Members(m.r.all.Context())
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, o := range list.Members {
		if o.State == gateway.MemberLeft || o.State == gateway.MemberFailed {
			continue
		}
		alive = append(alive, o.ID)
		if !o.Self && (o.State != gateway.MemberAlive || o.Problem != "" || !o.Linked && (o.Mode == "member" || !m.client)) {
			problems = append(problems, fmt.Sprintf("%+v", o))
		}
	}
	return alive, problems
}

// state returns what m knows of a node's latest run.
func (m *member) state(id string) (state string) {
	list, err := m.http.Members(m.r.all.Context())
	if err != nil {
		return err.Error()
	}
	boot := ""
	for _, o := range list.Members {
		if o.ID == id && o.Boot > boot {
			boot, state = o.Boot, o.State
		}
	}
	return state
}

// hosts returns which kinds are where according to m.
func (m *member) hosts() string {
	list, err := m.http.Kinds(m.r.all.Context())
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, k := range list.Kinds {
		fmt.Fprintf(&b, "%s on %v; ", k.Name, k.Nodes)
	}
	return b.String()
}

// call calls an actor by JSON. What takes as long as it may does not end.
func (m *member) call(actor, method, params string) (string, error) {
	return m.callFor(actor, method, params, hangs)
}

func (m *member) callFor(actor, method, params string, timeout time.Duration) (string, error) {
	target, err := abi.ParseIdentity(actor)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(m.r.all.Context(), 2*hangs) // the client's own limit is the sooner one
	defer cancel()
	out, err := m.http.CallJSON(ctx, target, method, []byte(params), client.CallOptions{Timeout: timeout})
	return strings.TrimSpace(string(out)), err
}

func (m *member) must(actor, method, params string) string {
	m.r.t.Helper()
	out, err := m.call(actor, method, params)
	if err != nil {
		m.r.t.Fatalf("%s %s through %s: %v", actor, method, m.ID, err)
	}
	return out
}

// add counts one up on a counter; its error is what the call came to.
func (m *member) add(actor string) (value int, err error) {
	out, err := m.call(actor, "add", `{"by":1}`)
	if err != nil {
		return 0, err
	}
	var reply struct{ Value *int }
	if err := json.Unmarshal([]byte(out), &reply); err != nil || reply.Value == nil {
		return 0, fmt.Errorf("%s answered %s", actor, out)
	}
	return *reply.Value, nil
}

// adds expects a counter to count to want.
func (m *member) adds(actor string, want int) {
	m.r.t.Helper()
	if got, err := m.add(actor); err != nil || got != want {
		m.r.t.Errorf("%s through %s counts to %d, %v, want %d", actor, m.ID, got, err, want)
	}
}

// hosted returns the actors of a kind that live on m.
func (m *member) hosted(kind string) (actors []string) {
	m.r.t.Helper()
	for after := ""; ; {
		page, err := m.http.Actors(m.r.all.Context(), client.ActorsQuery{Kind: kind, After: after, Limit: gateway.MaxPage})
		if err != nil {
			m.r.t.Fatalf("the actors of %s: %v", m.ID, err)
		}
		for _, a := range page.Actors {
			actors = append(actors, a.Kind+"/"+a.ID)
		}
		if after = page.Next; after == "" {
			return actors
		}
	}
}

// homes returns where each actor of a kind lives; none lives twice.
func (r *realm) homes(kind string) map[string]string {
	r.t.Helper()
	homes := make(map[string]string)
	for id, m := range r.up {
		for _, actor := range m.hosted(kind) {
			if other := homes[actor]; other != "" {
				r.t.Errorf("%s lives on %s and on %s", actor, other, id)
			}
			homes[actor] = id
		}
	}
	return homes
}

// counters names the first n counters.
func counters(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("counter/c%d", i)
	}
	return names
}

// each does something with every name, several at a time.
func each(names []string, do func(i int, name string)) {
	const workers = 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(names); i += workers {
				do(i, names[i])
			}
		})
	}
	wg.Wait()
}
