package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/link/ca"
	"github.com/wasilo/wasilo/serfwatch"
)

// network is a node's part in a cluster of several: the link that carries messages, the gossip that says who is there, and what
// the others host. Gossip proposes: whatever it says of a node counts for nothing until the link has verified it.
type network struct {
	log     *slog.Logger
	self    cluster.Node
	profile serfwatch.Profile
	mode    cluster.Mode
	seeds   bool          // it is to join others
	voters  bool          // voters decide who owns what
	patient time.Duration // as of the configuration
	listen  net.Listener
	link    *link.Link
	watch   *serfwatch.Watch
	atlas   *atlas
	outlook *outlook
	fail    func(error) // ends the node

	runtime *cluster.Runtime // set by attach, before anything runs

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	blocking sync.Mutex                  // held while an operator's block list changes
	ordered  map[cluster.NodeID]struct{} // it

	learning sync.Mutex // held while the runtime is told what a node hosts

	mu        sync.Mutex
	withdrawn bool
	told      map[cluster.NodeID]struct{} // nodes whose kinds the runtime knows
	changed   chan struct{}               // closed and replaced when told grows
}

// Times of a node's coming and going.
const (
	settleTime  = 3 * time.Second        // a start waits for what the others host
	settleLook  = 50 * time.Millisecond  // and looks as often whether one of them cannot be reached
	drainTime   = 3 * time.Second        // a node that leaves says so to the others, though its actors have not ended
	leaveTime   = 15 * time.Second       // for gossip to spread that a node leaves; its profile decides
	partingTime = time.Second            // for what is on the wires then
	probeTime   = 2 * time.Second        // another run of this node is asked whether it lives
	confirmTime = 3 * time.Second        // between the two answers that end a node which has been replaced
	rivalLook   = 500 * time.Millisecond // how often it is looked for such a run, once there was one
)

// openNetwork opens the node's sockets but the one of gossip. Nothing is answered before join.
func openNetwork(ctx context.Context, cfg *Config, httpAddr string, handler link.Handler, services map[string]link.Service,
	streams map[string]link.StreamHandler) (*network, error) {
	c := &cfg.Net
	n := &network{log: cfg.Log, told: make(map[cluster.NodeID]struct{}), changed: make(chan struct{})}
	credentials, err := openCredentials(cfg)
	if err != nil {
		return nil, &configError{err}
	}
	keys, err := readGossipKeys(c.GossipKey)
	if err != nil {
		return nil, &configError{err}
	}
	if n.listen, err = link.Listen(ctx, c.Link, credentials); err != nil {
		return nil, err
	}
	authority, err := authorityOf(n.listen.Addr(), c.Advertise)
	if err != nil {
		return nil, errors.Join(err, n.listen.Close())
	}
	n.mode, n.seeds, n.voters = c.Mode, len(c.Join) > 0, cfg.byQuorum()
	n.patient = c.patience
	n.profile = or(c.Profile, serfwatch.LAN)
	n.self = cluster.Node{ID: cluster.NodeID(cfg.ID), Authority: authority, Boot: serfwatch.NewBoot() + uint64(c.skew.Milliseconds())<<20}
	n.link, err = link.New(link.Config{Self: n.self, Mode: c.Mode, Credentials: credentials, Handler: handler,
		Services: services, Relayed: relayedServices, Streams: streams, Dial: c.dial, MaxMessage: cfg.Limits.MaxMessage, OnKinds: n.onKinds, Log: cfg.Log})
	if err != nil {
		return nil, errors.Join(err, n.listen.Close())
	}
	gossip := serfwatch.Config{ID: n.self.ID, Boot: n.self.Boot, Cluster: cfg.Cluster, Mode: c.Mode, Authority: authority, Bind: c.Gossip,
		Advertise: c.Advertise, Join: c.Join, Profile: c.Profile, Patience: c.patience, Keys: keys,
		Placement: c.Placement, Weight: c.Weight, Voters: cfg.byQuorum(), Tags: make(map[string]string), Log: cfg.Log}
	if httpAddr != "" {
		gossip.Tags[tagHTTP] = httpAddr
	}
	if cfg.byQuorum() && cfg.isVoter() {
		gossip.Tags[tagVoter] = "1"
	}
	if n.watch, err = serfwatch.New(gossip); err != nil {
		return nil, errors.Join(&configError{err}, n.close())
	}
	n.atlas = newAtlas(cfg.Log, n.ask)
	n.outlook = newOutlook(n.others, n.ask)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n, nil
}

// relayedServices may be asked through a third node: they answer everybody the same. What voters and moves ask does not, for the one that asks
// has to prove who it is.
var relayedServices = []string{describeService, waitsService, loadingService}

const (
	// tagHTTP is where a node says in its gossip where its gateway is: for people.
	tagHTTP = "http"
	// tagVoter is where it says that it has a voter, which others may ask.
	tagVoter = "voter"
)

// authority says where a member's link is, as gossip has it.
func (n *network) authority(id cluster.NodeID) (string, bool) {
	for _, p := range n.watch.Peers() {
		if p.ID == id && !p.Duplicate && p.Authority != "" {
			return p.Authority, true
		}
	}
	return "", false
}

// voting are the members that say that they have a voter.
func (n *network) voting() (all []cluster.Node) {
	for _, p := range n.watch.Peers() {
		if p.Tags[tagVoter] != "" && !p.Duplicate && p.Authority != "" && p.ID != n.self.ID {
			all = append(all, p.Node)
		}
	}
	return all
}

// configError is a fault of what a configuration names.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// WireCode says that the configuration is wrong.
func (e *configError) WireCode() abi.Code { return abi.ErrInvalidArgument }

// openCredentials opens the node's own certificate, or has the development authority make one.
func openCredentials(cfg *Config) (*ca.Credentials, error) {
	opt := ca.Options{Warn: seldom(func(text string) { cfg.Log.Warn(text, "node", cfg.ID) }),
		Renewed: func(until time.Time) { cfg.Log.Info("the node's certificate was renewed", "until", until.UTC()) },
		Now:     func() time.Time { return time.Now().Add(cfg.Net.skew) }}
	id := ca.ID{Cluster: cfg.Cluster, Node: cfg.ID}
	if cfg.Net.CA == "" {
		authority, err := ca.OpenDevelopment("", opt)
		if err != nil {
			return nil, err
		}
		return authority.Credentials(id)
	}
	credentials, err := ca.OpenFiles(cfg.Net.CA, cfg.Net.Cert, cfg.Net.Key, opt)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	if got := credentials.ID(); got != id {
		return nil, fmt.Errorf("the certificate %s is that of node %q of cluster %q, and this is node %q of cluster %q: "+
			"start it with --id and --cluster of the certificate, or issue one with `wasilo node cert %s --cluster %s`",
			cfg.Net.Cert, got.Node, got.Cluster, id.Node, id.Cluster, id.Node, id.Cluster)
	}
	return credentials, nil
}

// seldom passes on an error that comes again and again once an hour.
func seldom(tell func(text string)) func(error) {
	var mu sync.Mutex
	said := make(map[string]time.Time)
	return func(err error) {
		text := err.Error()
		mu.Lock()
		defer mu.Unlock()
		if at, before := said[text]; before && time.Since(at) < time.Hour {
			return
		}
		if len(said) > 100 { // the texts have times in them
			clear(said)
		}
		said[text] = time.Now()
		tell(text)
	}
}

// authorityOf returns the host:port by which others reach a listener.
func authorityOf(at net.Addr, advertise string) (string, error) {
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return "", err
	}
	if advertise != "" {
		return net.JoinHostPort(advertise, port), nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "", abi.NewError(abi.ErrInvalidArgument, "the link listens on every interface, and nothing says which address other nodes reach: give --advertise HOST")
	}
	return at.String(), nil
}

// attach gives the network the runtime that it tells what others host.
func (n *network) attach(r *cluster.Runtime) { n.runtime = r }

// join lets the others reach this node and finds them. It refuses to be the second node of one id, and to join nodes that place actors
// in another way.
func (n *network) join(ctx context.Context, fail func(error)) error {
	n.fail = fail
	if !n.seeds && n.mode == cluster.Client {
		n.log.Warn("a client that joins nobody can call nothing until another node joins it: give --join ADDR")
	}
	if err := n.watch.Start(ctx); errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w, perhaps by another node; stop that one, or take a free port with --gossip 127.0.0.1:0", err)
	} else if err != nil {
		return err
	}
	err := n.refuseRival(ctx)
	if mismatch := n.watch.Misplaced(); err == nil && mismatch != nil {
		err = &configError{mismatch}
	}
	if err != nil {
		said, cancel := context.WithTimeout(ctx, leaveTime)
		defer cancel()
		return errors.Join(err, n.watch.Leave(said)) // so that the others have the right one back at once
	}
	n.work.Go(func() { // not before: whoever has verified a newer run of a node drops the older one
		if err := n.link.Serve(n.listen); err != nil {
			fail(err)
		}
	})
	n.work.Go(n.guard)
	if !n.voters { // with voters it is a node's session that ends, for others and for itself
		n.work.Go(n.watchRefusals)
		n.work.Go(func() { n.watchStalls(lapseAfter(n.profile) + n.patient) })
	}
	return nil
}

// Subscribe implements [cluster.TopologyStream]: the members that gossip sees, with the link and the runtime told on the way.
func (n *network) Subscribe(ctx context.Context) (cluster.TopologyStreamHandle, error) {
	h, err := n.watch.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	return &following{TopologyStreamHandle: h, n: n}, nil
}

var _ cluster.TopologyStream = (*network)(nil)

// following is the subscription of the runtime. That it asks for the next snapshot says that it has applied the last one.
type following struct {
	cluster.TopologyStreamHandle
	n       *network
	applied *cluster.Topology
}

func (f *following) Next(ctx context.Context) (*cluster.Topology, error) {
	if f.applied != nil {
		// The runtime forgets what a node hosts that has left its topology; one that was only thought lost may be connected still and has
		// no reason to say it again.
		for _, m := range f.applied.Members() {
			if m.ID != f.n.self.ID {
				f.n.learn(m.ID)
			}
		}
	}
	t, err := f.TopologyStreamHandle.Next(ctx)
	if err == nil && t != nil {
		f.applied = t
		f.n.link.SetMembers(t.Members())
	}
	return t, err
}

// onKinds is told by the link that a node hosts something else than before.
func (n *network) onKinds(node cluster.NodeID, _ []string) { n.learn(node) }

// learn tells the runtime what a node hosts, as far as it has said. What it said last is looked up under the lock: of two who
// come here at once the second one does not bring what is old.
func (n *network) learn(node cluster.NodeID) {
	n.learning.Lock()
	defer n.learning.Unlock()
	kinds, ok := n.link.KindsOf(node)
	if !ok || !n.link.Reached(node) { // one that only reaches this one would take its share and not be found
		return
	}
	list := make([]cluster.Kind, 0, len(kinds))
	for _, k := range kinds {
		list = append(list, cluster.Kind{Name: k})
	}
	if err := n.runtime.SetPeerKinds(node, list); err != nil {
		n.log.Warn("what a node says that it hosts was refused", "node", node, "err", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, before := n.told[node]; !before {
		n.told[node] = struct{}{}
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

// settle waits until it is known what the members host, so that this node does not take for its own what another has. A member
// that cannot be reached is not waited for, and nobody for long.
func (n *network) settle(ctx context.Context) error {
	limit := time.NewTimer(settleTime + n.patient)
	defer limit.Stop()
	look := time.NewTicker(settleLook)
	defer look.Stop()
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		waiting := n.unsettled()
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-look.C:
		case <-limit.C:
			n.log.Warn("serving without knowing what some members host; their actors may be started here too", "members", waiting)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// others are the members of the view but for this node.
func (n *network) others() []cluster.Node {
	t := n.runtime.View().Topology()
	if t == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.Members()), func(m cluster.Node) bool { return m.ID == n.self.ID })
}

// seeking reports whether the node is alone though it is to join others.
func (n *network) seeking() bool {
	if !n.seeds && n.mode == cluster.Member {
		return false
	}
	for _, m := range n.runtime.View().Topology().Members() {
		if m.ID != n.self.ID {
			return false
		}
	}
	return true
}

// outcast reports whether there are other members and none of them and this node believe each other. What it answers then is not
// what the cluster does.
func (n *network) outcast() bool {
	failures := make(map[cluster.NodeID]error)
	for _, p := range n.link.Peers() {
		if p.Outgoing > 0 || p.Incoming > 0 {
			return false
		}
		failures[p.ID] = p.Failure
	}
	others := 0
	for _, m := range n.runtime.View().Topology().Members() {
		if m.ID == n.self.ID {
			continue
		}
		var refusal *link.Refusal
		var certificate *ca.CertificateError
		err := failures[m.ID]
		if !errors.As(err, &certificate) && !(errors.As(err, &refusal) && refusal.Reason != link.Leaving) {
			return false
		}
		others++
	}
	return others > 0
}

// unsettled returns the members that have not said what they host and may yet.
func (n *network) unsettled() (ids []cluster.NodeID) {
	t := n.runtime.View().Topology()
	if t == nil {
		return nil
	}
	n.mu.Lock()
	for _, m := range t.Members() {
		if _, told := n.told[m.ID]; !told && m.ID != n.self.ID {
			ids = append(ids, m.ID)
		}
	}
	n.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	for _, p := range n.link.Peers() {
		if p.Failure != nil {
			ids = slices.DeleteFunc(ids, func(id cluster.NodeID) bool { return id == p.ID })
		}
	}
	return ids
}

// leave tells the others that this node hosts nothing any more and goes, and lets what is on the wires come to its end.
func (n *network) leave(ctx context.Context) error {
	n.withdraw()
	if n.watch.Err() != nil { // a start that failed has closed it, or it has failed itself: there is nobody to tell
		return n.close()
	}
	gossip, cancel := context.WithTimeout(ctx, leaveTime)
	err := n.watch.Leave(gossip)
	cancel()
	if err != nil {
		err = fmt.Errorf("leaving the gossip: %w", err)
	}
	parting, cancel := context.WithTimeout(ctx, partingTime+n.patient)
	defer cancel()
	if cut := n.link.Shutdown(parting); cut != nil {
		n.log.Debug("connections to other nodes were cut off", "err", cut)
	}
	return errors.Join(err, n.close())
}

// host tells the others what this node hosts, unless it has withdrawn.
func (n *network) host(kinds []string) { n.say(kinds, false) }

// withdraw tells the others that this node hosts nothing any more.
func (n *network) withdraw() { n.say(nil, true) }

func (n *network) say(kinds []string, last bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.withdrawn {
		return
	}
	n.withdrawn = last
	if err := n.link.SetKinds(kinds); err != nil {
		n.log.Error("the link refused the node's kinds", "err", err)
	}
}

// close ends everything at once.
func (n *network) close() error {
	if n.cancel != nil {
		n.cancel()
	}
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	var err error
	if n.watch != nil {
		err = n.watch.Close()
	}
	_ = n.link.Shutdown(hurry) // the error only says that it was in a hurry
	if closed := n.listen.Close(); closed != nil && !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	if n.atlas != nil {
		n.atlas.close()
	}
	if n.outlook != nil {
		n.outlook.close()
	}
	n.work.Wait()
	return err
}
