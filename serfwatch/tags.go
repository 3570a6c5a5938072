package serfwatch

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/wasilo/wasilo/cluster"
)

// version is the protocol of the tags. A node that reads another one's tags has to know their version.
const version = 1

// The tags that every node has.
const (
	tagVersion = "v"
	tagCluster = "cluster"
	tagID      = "id"
	tagBoot    = "boot"
	tagMode    = "mode"
	tagLink    = "link"
)

// The tags of nodes that differ from the default, rendezvous and 1.
const (
	tagPlacement = "placement"
	tagDecides   = "decides" // "voters", or not there
	tagWeight    = "weight"
)

var reserved = [...]string{tagVersion, tagCluster, tagID, tagBoot, tagMode, tagLink, tagPlacement, tagWeight, tagDecides}

// Names of strategies that have a meaning here.
const (
	rendezvous = "rendezvous"
	weighted   = "weighted"
)

// said is what a node says of itself, in its tags and its name.
type said struct {
	cluster string
	node    cluster.Node // Authority may be "" of a client
	mode    cluster.Mode
	// placement is the strategy's name, "" for rendezvous.
	placement string
	// voters says that the voters' log decides who owns an actor.
	voters bool
	extra  map[string]string
}

// name is what serf calls this run of the node.
func (s said) name() string { return string(s.node.ID) + "-" + bootText(s.node.Boot) }

func bootText(boot uint64) string { return fmt.Sprintf("%016x", boot) }

func (s said) tags() map[string]string {
	tags := make(map[string]string, len(reserved)+len(s.extra))
	maps.Copy(tags, s.extra)
	tags[tagVersion] = strconv.Itoa(version)
	tags[tagCluster] = s.cluster
	tags[tagID] = string(s.node.ID)
	tags[tagBoot] = bootText(s.node.Boot)
	tags[tagMode] = s.mode.String()
	if s.node.Authority != "" {
		tags[tagLink] = s.node.Authority
	}
	if s.placement != "" {
		tags[tagPlacement] = s.placement
	}
	if s.voters {
		tags[tagDecides] = decidesVoters
	}
	if s.node.Weight != 0 {
		tags[tagWeight] = strconv.Itoa(int(s.node.Weight))
	}
	return tags
}

// read checks what a member of the gossip says of itself, down to its last field: it comes from the network. name is the one that
// serf knows it by, self what this node says. A
// [placementError] is that of a node which is all right but for its placement. The error says what is wrong, and repeats nothing longer than a name.
func read(name string, tags map[string]string, self said) (said, error) {
	var s said
	if v := tags[tagVersion]; v != strconv.Itoa(version) {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil {
			return said{}, fmt.Errorf("it speaks version %d of the tags, this node version %d", n, version)
		}
		return said{}, errors.New("it has no tags of this kind of cluster")
	}
	if err := checkSize(tags); err != nil {
		return said{}, err
	}
	s.cluster = tags[tagCluster]
	if s.cluster != self.cluster {
		if checkName(cluster.NodeID(s.cluster)) != nil {
			return said{}, errors.New("it names no cluster")
		}
		return said{}, fmt.Errorf("it is of cluster %q, this node of %q", s.cluster, self.cluster)
	}
	s.node.ID = cluster.NodeID(tags[tagID])
	if checkName(s.node.ID) != nil {
		return said{}, errors.New("its id is not that of a node")
	}
	s.node.Boot, _ = strconv.ParseUint(tags[tagBoot], 16, 64)
	if s.node.Boot == 0 || tags[tagBoot] != bootText(s.node.Boot) {
		return said{}, errors.New("it has no boot number")
	}
	if name != s.name() {
		return said{}, fmt.Errorf("it says that it is node %s, boot %s, but is not called so", s.node.ID, bootText(s.node.Boot))
	}
	switch tags[tagMode] {
	case cluster.Member.String():
		s.mode = cluster.Member
	case cluster.Client.String():
		s.mode = cluster.Client
	default:
		return said{}, errors.New("its mode is neither member nor client")
	}
	link, linked := tags[tagLink]
	s.node.Authority = link
	if linked || s.mode == cluster.Member { // a client without one leaves it out
		if err := checkReachable(s.node.Authority); err != nil {
			return said{}, fmt.Errorf("its link cannot be reached: %w", err)
		}
	}
	if err := s.readPlacement(tags); err != nil {
		return said{}, err
	}
	for key, value := range tags {
		if isReserved(key) {
			continue
		}
		if s.extra == nil {
			s.extra = make(map[string]string, len(tags))
		}
		s.extra[key] = value
	}
	if checkExtra(s.extra) != nil {
		return said{}, errors.New("it has tags that are not printable text")
	}
	if s.placement != self.placement || s.voters != self.voters {
		return said{}, &placementError{self: self, other: s}
	}
	return s, nil
}

// readPlacement reads the tags that only some nodes have; each has one way to be written.
func (s *said) readPlacement(tags map[string]string) error {
	if decides, ok := tags[tagDecides]; ok {
		if decides != decidesVoters {
			return errors.New("who decides in its cluster is nobody that this version knows")
		}
		s.voters = true
	}
	if name, ok := tags[tagPlacement]; ok {
		if _, known := cluster.StrategyNamed(name); !known || name == "" || name == rendezvous {
			return errors.New("its placement is none that this version knows")
		}
		s.placement = name
	}
	if text, ok := tags[tagWeight]; ok {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n < 2 || n > cluster.MaxWeight || text != strconv.FormatUint(n, 10) {
			return errors.New("its weight is none")
		}
		if s.placement != weighted || s.mode != cluster.Member {
			return errors.New("it has a weight without being a member that places by weights")
		}
		s.node.Weight = uint16(n)
	}
	return nil
}

const decidesVoters = "voters"

// placementError is the reason why a node is left out that spreads actors in another way than this one, or lets others decide: they
// would never agree on whose an actor is.
type placementError struct{ self, other said }

func (e *placementError) Error() string {
	if e.other.voters != e.self.voters {
		has := map[bool]string{true: "lets voters decide who owns an actor", false: "has no voters"}
		return fmt.Sprintf("node %s %s, and this node, %s, %s: it is the same for all nodes of a cluster; start the node without voters again with "+
			"--quorum (or with --voters, if it is to be one), or the others without", e.other.node.ID, has[e.other.voters], e.self.node.ID, has[e.self.voters])
	}
	name := func(s said) string {
		if s.placement == "" {
			return rendezvous
		}
		return s.placement
	}
	return fmt.Sprintf("node %s has the placement %s and this node, %s, has %s: all nodes of a cluster need the same; "+
		"start one of the two again with the --placement of the others", e.other.node.ID, name(e.other), e.self.node.ID, name(e.self))
}

func isReserved(key string) bool {
	for _, r := range reserved {
		if key == r {
			return true
		}
	}
	return false
}

// checkExtra returns nil if tags can be told beside a node's own: printable text, under names that are not taken.
func checkExtra(tags map[string]string) error {
	for key, value := range tags {
		switch {
		case key == "":
			return errors.New("a tag has no name")
		case isReserved(key):
			return fmt.Errorf("%q is the name of a tag that the node sets itself", key)
		case !printable(key) || !printable(value):
			return fmt.Errorf("tag %.40q is not printable UTF-8", key)
		}
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// checkSize returns nil if tags fit into what memberlist spreads of a node. It counts as serf's encoder does: a byte in front, then
// a MessagePack map of raw strings.
func checkSize(tags map[string]string) error {
	text := func(s string) int {
		switch {
		case len(s) < 32:
			return 1 + len(s)
		case len(s) < 1<<16:
			return 3 + len(s)
		}
		return 5 + len(s)
	}
	size := 1 + 1
	if len(tags) > 15 {
		size += 2
	}
	for key, value := range tags {
		size += text(key) + text(value)
	}
	if size > memberlist.MetaMaxSize {
		return fmt.Errorf("the tags take %d bytes of %d", size, memberlist.MetaMaxSize)
	}
	return nil
}
