package host

import (
	"fmt"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/module"
)

// Actors lists active actors in order of their key.
func (n *Node) Actors(q gateway.ActorQuery) gateway.ActorPage {
	if !n.up.Load() {
		return gateway.ActorPage{Actors: []gateway.ActorInfo{}}
	}
	rows, more := n.silo.List(q.Kind, q.After.String(), q.Limit)
	page := gateway.ActorPage{Actors: make([]gateway.ActorInfo, 0, len(rows)), More: more}
	for _, r := range rows {
		state := gateway.ActorIdle
		switch {
		case r.Status.Closing:
			state = gateway.ActorClosing
		case r.Status.Busy:
			state = gateway.ActorRunning
		}
		page.Actors = append(page.Actors, gateway.ActorInfo{Kind: r.Identity.Kind(), ID: r.Identity.ID(), State: state,
			Version: r.Version, Since: r.Since, Last: r.LastUsed, Waiting: r.Status.Queued, Calls: r.Status.Calls, Timers: r.Status.Timers})
	}
	return page
}

// Ready reports whether the node serves: its modules are read, the cluster stands, and it is not leaving. A file that
// could not be loaded is shown and leaves the node ready: its other kinds serve.
func (n *Node) Ready() gateway.Readiness {
	loaded, leaving := n.loaded.Load(), n.leaving.Load()
	r := gateway.Readiness{Ready: loaded && !leaving}
	check := func(name string, ok bool, detail string) {
		r.Checks = append(r.Checks, gateway.Check{Name: name, OK: ok, Detail: detail})
	}
	if leaving {
		check("serving", false, "the node is shutting down")
	} else {
		check("serving", true, "")
	}
	if !loaded {
		check("modules", false, "still loading")
		return r
	}
	bad := 0
	for _, f := range n.Files() {
		if f.State != string(module.StateLoaded) {
			bad++
			check("file "+f.Path, false, f.Error)
		}
	}
	check("modules", true, fmt.Sprintf("%d kinds; %d files refused", len(n.kinds.Load().sorted), bad))
	st := n.silo.Stats()
	check("silo", true, fmt.Sprintf("%d activations, about %d MiB of %d", st.Activations, st.Bytes>>20, n.cfg.Limits.MaxBytes>>20))
	return r
}
