package host

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/module"
	"github.com/wasilo/wasilo/host/silo"
)

// kinds is what the node serves at a moment: immutable, found through an atomic pointer.
type kinds struct {
	ready  bool // the directory was read
	byName map[string]*kind
	sorted []*kind
}

type kind struct {
	silo.Kind
	file   string
	module *module.Kind[*engine.Module] // nil: native
}

// counters are kept a kind for the node's life, however often its module changes.
type counters struct {
	mu     sync.Mutex
	byKind map[string]*actor.Counters
}

func (c *counters) of(kind string) *actor.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byKind[kind]
	if k == nil {
		k = &actor.Counters{}
		c.byKind[kind] = k
	}
	return k
}

// rebuild makes a new view of the kinds from the native ones and the catalog, and tells the cluster.
func (n *Node) rebuild() {
	n.rebuilding.Lock()
	defer n.rebuilding.Unlock()
	n.rebuildLocked()
}

// refresh rebuilds the view unless somebody has done so meanwhile. The catalog closes what it replaced before it tells
// [Node.rebuild], and closing takes its time; whoever finds that the module of a kind is no longer the catalog's comes here,
// so that nobody tries to start an actor from a closed one.
func (n *Node) refresh(stale *kinds) *kinds {
	n.rebuilding.Lock()
	defer n.rebuilding.Unlock()
	if n.kinds.Load() == stale {
		n.rebuildLocked()
	}
	return n.kinds.Load()
}

// rebuildLocked leaves out a module's kind that a native one has already: the catalog does not know of those.
func (n *Node) rebuildLocked() {
	v := &kinds{byName: make(map[string]*kind), ready: n.loaded.Load()}
	for _, native := range n.cfg.Native {
		k := &kind{Kind: n.siloKind(&native.Desc, "native")}
		k.Start = func(h *actor.Host, state []byte) (actor.Instance, error) {
			switch {
			case state == nil:
				return native.New(h)
			case native.Wake == nil:
				return nil, abi.NewError(abi.ErrStateUnusable, "the native kind has no Wake")
			}
			return native.Wake(h, state)
		}
		v.byName[native.Desc.Name] = k
	}
	if n.catalog != nil {
		for _, m := range n.catalog.Kinds() {
			if _, taken := v.byName[m.Name]; taken {
				n.log.Error("a native kind of the node stands in the way of a module's", "kind", m.Name, "file", m.File)
				continue
			}
			v.byName[m.Name] = n.wasmKind(m)
		}
	}
	names := make([]cluster.Kind, 0, len(v.byName))
	for name, k := range v.byName {
		v.sorted = append(v.sorted, k)
		names = append(names, cluster.Kind{Name: name})
	}
	slices.SortFunc(v.sorted, func(a, b *kind) int { return strings.Compare(a.Desc.Name, b.Desc.Name) })
	slices.SortFunc(names, func(a, b cluster.Kind) int { return strings.Compare(a.Name, b.Name) })
	before, since := n.kinds.Load(), time.Now()
	n.kinds.Store(v)
	for name, k := range before.byName { // what is gone altogether, the cluster tells the silo
		if now := v.byName[name]; now != nil && now.Version != k.Version {
			n.silo.Replaced(name, since)
		}
	}
	names, tell := n.offered(names)
	if err := n.runtime.SetKinds(names); err != nil {
		n.log.Error("the cluster refused the node's kinds", "err", err)
	}
	if n.net != nil && tell { // the others after this node itself, so that it takes what they send
		hosted := make([]string, 0, len(names))
		for _, k := range names {
			hosted = append(hosted, k.Name)
		}
		n.net.host(hosted)
		if n.quorum != nil && n.loaded.Load() { // all at once: a node that hosts some of them only would have groups split for it
			n.quorum.host(hosted)
		}
	}
}

func (n *Node) siloKind(desc *abi.KindDescription, version string) silo.Kind {
	k := n.cfg.kindLimits(desc.Name)
	return silo.Kind{Desc: desc, Version: version, Limits: k.ofActivation(n.cfg.Limits.Request), Idle: k.Idle, Hibernate: k.Hibernate, Cost: 8 << 10, Counters: n.counters.of(desc.Name)}
}

func (n *Node) wasmKind(m *module.Kind[*engine.Module]) *kind {
	k := &kind{Kind: n.siloKind(m.Desc, m.Version), file: m.File, module: m}
	program, log := m.Program, n.log
	options := n.cfg.kindLimits(m.Name).ofInstance()
	options.Gauge = program.Gauge(m.Name)
	k.Cost, k.Typical, k.Counted = program.Footprint(), options.Gauge.Weight, true
	k.Quick = program.Images()
	k.Start = func(h *actor.Host, state []byte) (actor.Instance, error) {
		opt := options
		opt.State, opt.Epoch, opt.Log = state, h.Epoch(), log.With("actor", h.Identity().Key())
		i, err := program.Instantiate(h.Context(), h, opt)
		if err != nil {
			return nil, err // and not a nil *engine.Instance
		}
		return i, nil
	}
	return k
}

// loader loads modules by the engine, and says what they declare that this version does not do.
type loader struct {
	*engine.Engine
	before func(context.Context) // of the configuration
	log    *slog.Logger
}

// Load loads one module.
func (l loader) Load(ctx context.Context, wasm []byte) (*engine.Module, error) {
	if l.before != nil {
		l.before(ctx)
	}
	m, err := l.Engine.Load(ctx, wasm)
	if err != nil {
		return nil, err
	}
	for _, k := range m.Description().Kinds {
		switch {
		case k.State.Keep == abi.KeepTyped || k.State.Level == abi.LevelDurable:
			l.log.Warn("this version keeps images of memory, and those while the node lives: the kind is kept less than it declares",
				"kind", k.Name, "keep", k.State.Keep, "level", k.State.Level)
		case k.State.Keep == abi.KeepImage && !m.Images():
			_, why := m.Tier()
			l.log.Warn("the kind declares to be kept as an image and cannot: its actors end when they are passivated", "kind", k.Name, "why", why)
		}
	}
	return m, nil
}

// find returns a kind as it is now.
func (n *Node) find(name string) (*kind, error) {
	v := n.kinds.Load()
	k := v.byName[name]
	if v.ready && n.catalog != nil && (k == nil || k.module != nil) {
		if now, _ := n.catalog.Kind(name); now != nil && k == nil || k != nil && now != k.module {
			v = n.refresh(v)
			k = v.byName[name]
		}
	}
	if k != nil {
		return k, nil
	}
	if !v.ready {
		return nil, abi.NewError(abi.ErrNotReady, "the node is still loading its modules")
	}
	if err := abi.CheckKind(name); err != nil {
		return nil, err
	}
	if why := n.comingHere(name); why != "" {
		return nil, abi.NewError(abi.ErrNotReady, why)
	}
	have := make([]string, 0, len(v.sorted))
	for _, k := range v.sorted {
		have = append(have, k.Desc.Name)
	}
	if len(have) == 0 {
		return nil, abi.NewError(abi.ErrUnknownKind, "no kind "+name+": the node serves none; put .wasm files into its actors directory")
	}
	return nil, abi.NewError(abi.ErrUnknownKind, "no kind "+name+" on this node, which serves "+strings.Join(have, ", "))
}

// Method finds what a kind says of a method; see [gateway.Node]. A kind that only other nodes host is asked of one of them, the first
// time, and again while that may help.
func (n *Node) Method(ctx context.Context, kindName, method string, deadline time.Time) (*abi.Method, error) {
	if !n.serving.Load() && n.up.Load() && !n.leaving.Load() {
		if err := n.awaitStart(ctx, deadline); err != nil {
			return nil, err
		}
	}
	desc, err := n.descriptionOf(ctx, kindName, method, deadline)
	if err != nil && abi.CodeOf(err).Retryable() {
		desc, err = n.awaitDescription(ctx, kindName, method, deadline, err)
	}
	if err != nil {
		return nil, err
	}
	if len(desc.Methods) == 0 {
		return nil, nil
	}
	if m, ok := desc.Method(method); ok {
		return m, nil
	}
	have := make([]string, 0, len(desc.Methods))
	for _, m := range desc.Methods {
		have = append(have, m.Name)
	}
	return nil, abi.NewError(abi.ErrUnknownMethod, "kind "+kindName+" has no method "+method+", it has "+strings.Join(have, ", "))
}

// maxWaiting bounds the callers that wait for a kind to become known; further ones are answered at once.
const maxWaiting = 10_000

// awaitDescription is descriptionOf again and again, after it failed with last, while that may help and there is time.
func (n *Node) awaitDescription(ctx context.Context, kind, method string, deadline time.Time, last error) (*abi.KindDescription, error) {
	defer n.waiting.Add(-1)
	if n.waiting.Add(1) > maxWaiting {
		return nil, last
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for tries := 1; ; tries++ {
		var loads []module.Load
		var changed <-chan struct{}
		if n.catalog != nil {
			loads, changed = n.catalog.Loading()
		}
		var desc *abi.KindDescription
		err := last
		if tries > 1 || len(loads) > 0 {
			desc, err = n.descriptionOf(ctx, kind, method, deadline)
		}
		if err == nil || !abi.CodeOf(err).Retryable() {
			return desc, err
		}
		pause, left := cluster.RetryPolicy{}.Backoff(tries, rand.Float64()), time.Until(deadline)
		if pause > left && len(loads) > 0 {
			pause = left // the end of a load is told, so that no time is too short to wait for it
		}
		if left <= 0 || pause > left || !n.serving.Load() {
			return nil, err
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
			if !time.Now().Before(deadline) {
				return nil, err
			}
		case <-changed:
		case <-n.parting:
			return nil, errLeaving
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// descriptionOf describes a kind, wherever it is hosted. One of another node that lacks the method is asked for anew: it may have been
// deployed just now.
func (n *Node) descriptionOf(ctx context.Context, kind, method string, deadline time.Time) (*abi.KindDescription, error) {
	k, err := n.find(kind)
	if err == nil {
		return k.Desc, nil
	}
	if !n.serving.Load() || n.net == nil || abi.CheckKind(kind) != nil {
		return nil, err
	}
	hosts := n.runtime.View().Hosts(kind)
	if len(hosts) == 0 {
		if abi.CodeOf(err).Retryable() { // a module of this node is on its way
			return nil, err
		}
		if id, err := abi.NewIdentity(kind, "any"); err == nil {
			if err := n.runtime.Callable(id); err != nil && abi.CodeOf(err).Retryable() {
				return nil, err
			}
		}
		if n.net.seeking() {
			return nil, abi.NewError(abi.ErrNotReady, "no kind "+kind+" on this node, and none of the nodes that it is to join has answered yet")
		}
		if waiting := n.net.unsettled(); len(waiting) > 0 {
			return nil, abi.NewError(abi.ErrNotReady, "no kind "+kind+" is known, and node "+string(waiting[0])+" has not said yet what it hosts")
		}
		if why := n.comingElsewhere(kind); why != "" {
			return nil, abi.NewError(abi.ErrNotReady, why)
		}
		return nil, n.unknownKind(kind)
	}
	c := n.net.atlas.begin(kind, hosts, atlasFresh)
	if c.answered() {
		desc, err := c.wait(ctx)
		if err != nil || knows(desc, method) {
			return desc, err
		}
		c = n.net.atlas.begin(kind, hosts, atlasRetry)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return c.wait(ctx)
}

// knows reports whether a kind has a method, as far as it says.
func knows(desc *abi.KindDescription, method string) bool {
	if len(desc.Methods) == 0 {
		return true
	}
	_, ok := desc.Method(method)
	return ok
}

// readOnly reports whether a method is known to change nothing, here or where its kind is hosted.
func (n *Node) readOnly(kind, method string) bool {
	var desc *abi.KindDescription
	if k := n.kinds.Load().byName[kind]; k != nil {
		desc = k.Desc
	} else if hosts := n.runtime.View().Hosts(kind); n.net != nil && len(hosts) > 0 {
		if c := n.net.atlas.begin(kind, hosts, atlasFresh); c.answered() {
			desc, _ = c.wait(n.net.ctx)
		}
	}
	if desc == nil {
		return false
	}
	m, ok := desc.Method(method)
	return ok && m.ReadOnly
}

// unknownKind says which kinds there are in the cluster.
func (n *Node) unknownKind(kind string) error {
	view := n.runtime.View()
	have := slices.DeleteFunc(view.Kinds(), func(k string) bool { return len(view.Hosts(k)) == 0 })
	if len(have) == 0 {
		return abi.NewError(abi.ErrUnknownKind, "no kind "+kind+": no node of the cluster serves any; put .wasm files into an actors directory")
	}
	return abi.NewError(abi.ErrUnknownKind, "no kind "+kind+" in the cluster, which serves "+strings.Join(have, ", "))
}

// Kinds lists what the cluster serves, as far as this node knows it, by name.
func (n *Node) Kinds() []gateway.KindInfo {
	v := n.kinds.Load()
	out := make([]gateway.KindInfo, 0, len(v.sorted))
	for _, k := range v.sorted {
		info := gateway.DescribeKind(k.Desc, k.file, k.Version)
		info.Backoff = n.backoff(k)
		info.Limits = n.limitsOf(k)
		if k.module != nil {
			info.Tier, _ = k.module.Program.Tier()
		}
		out = append(out, info)
	}
	if !n.up.Load() || n.net == nil {
		return out
	}
	view := n.runtime.View()
	for i := range out {
		out[i].Nodes = nodesOf(view.Hosts(out[i].Name))
	}
	charts := make(map[string]lookup) // asked for all at once
	for _, name := range view.Kinds() {
		if hosts := view.Hosts(name); v.byName[name] == nil && len(hosts) > 0 {
			charts[name] = n.net.atlas.begin(name, hosts, atlasFresh)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), atlasTime)
	defer cancel()
	for name, c := range charts {
		desc, err := c.wait(ctx)
		if err != nil {
			desc = &abi.KindDescription{Name: name} // it is there, whatever it looks like
		}
		info := gateway.DescribeKind(desc, "", "")
		info.Nodes = nodesOf(view.Hosts(name))
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b gateway.KindInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// limitsOf says what bounds the actors of a kind on this node; a native one's are bounded by what is outside of them alone.
func (n *Node) limitsOf(k *kind) *gateway.LimitsInfo {
	l := n.cfg.kindLimits(k.Desc.Name)
	info := &gateway.LimitsInfo{Mailbox: l.Mailbox, TurnMS: l.Turn.Milliseconds(), IdleMS: l.Idle.Milliseconds(), HibernateMS: l.Hibernate.Milliseconds(),
		MaxMessage: l.MaxMessage, Outgoing: l.Outgoing}
	if k.module != nil {
		info.Memory, info.Table, info.Stack, info.Fuel = l.Memory, l.Table, l.Stack, l.Fuel
		info.HostCalls, info.LogBytes = l.HostCalls, l.LogBytes
	}
	return info
}

// backoff says what this node holds back of a kind that it hosts, nil if nothing.
func (n *Node) backoff(k *kind) *gateway.BackoffInfo {
	if !n.up.Load() {
		return nil
	}
	b := n.silo.Backoff(&k.Kind)
	if b == nil {
		return nil
	}
	info := &gateway.BackoffInfo{Actors: b.Actors, Failures: b.Failures, WaitMS: b.Wait.Milliseconds(), Trying: b.Trying, Error: b.Err}
	if b.Wait%time.Millisecond > 0 { // 0 says that it is over
		info.WaitMS++
	}
	if !b.Actor.IsZero() {
		info.Actor = b.Actor.Key()
	}
	return info
}

func nodesOf(members []cluster.Node) []string {
	ids := make([]string, 0, len(members))
	for _, m := range members {
		ids = append(ids, string(m.ID))
	}
	return ids
}

// Files lists the module files that the node knows of, by path.
func (n *Node) Files() []gateway.FileInfo {
	if !n.up.Load() || n.catalog == nil {
		return nil
	}
	files := n.catalog.Files()
	out := make([]gateway.FileInfo, 0, len(files))
	for _, f := range files {
		out = append(out, gateway.FileInfo{Path: f.Path, SHA256: f.SHA256, Kinds: f.Kinds, State: string(f.State), Error: f.Error,
			LoadingSince: f.Loading})
	}
	return out
}
