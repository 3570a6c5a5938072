package link

import (
	"strconv"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// hello is how each side introduces itself. The one that dialled speaks first and offers versions; the other answers with the
// version that it chose, or with a refusal.
type hello struct {
	min, max    uint64 // versions
	version     uint64 // chosen; in the answer only
	cluster     string
	node        cluster.NodeID
	boot        uint64
	authority   string
	mode        cluster.Mode
	features    uint64 // bits; what either side lacks is not used
	maxFrame    int    // bytes of a frame that it reads
	maxInFlight int    // requests that it takes at a time
	probe       bool   // it only wants to know who is there: the answer to it is a hello, and the end
	stream      string // the stream that it opens: after the hellos the connection belongs to both ends; "" for none
}

// Features. Append, never reorder, never reuse.
const (
	featureAsk    = 1 << 0 // it takes frameAsk
	featureStream = 1 << 1 // it takes a hello that opens a stream
	featureRelay  = 1 << 2 // it takes frameRelay and frameRelayed, and is asked reachService

	features = featureAsk | featureStream | featureRelay // of this package
)

// Keys of a hello. Append, never reorder, never reuse. The first two mean the same in every version, so that a version that
// is not known can be told.
const (
	helloMin       = 0
	helloMax       = 1
	helloVersion   = 2
	helloCluster   = 3
	helloNode      = 4
	helloBoot      = 5
	helloAuthority = 6
	helloMode      = 7
	helloFeatures  = 8
	helloMaxFrame  = 9
	helloInFlight  = 10
	helloProbe     = 11
	helloStream    = 12
)

func appendHello(b []byte, h *hello) []byte {
	at := len(b)
	b = openFrame(b, 2, frameHello)
	n := 10
	if h.version != 0 {
		n++
	}
	if h.probe {
		n++
	}
	if h.stream != "" {
		n++
	}
	b = abi.AppendMap(b, n)
	number := func(key, v uint64) { b = abi.AppendUint(abi.AppendUint(b, key), v) }
	text := func(key uint64, v string) { b = abi.AppendText(abi.AppendUint(b, key), v) }
	number(helloMin, h.min)
	number(helloMax, h.max)
	if h.version != 0 {
		number(helloVersion, h.version)
	}
	text(helloCluster, h.cluster)
	text(helloNode, string(h.node))
	number(helloBoot, h.boot)
	text(helloAuthority, h.authority)
	number(helloMode, uint64(h.mode))
	number(helloFeatures, h.features)
	number(helloMaxFrame, uint64(h.maxFrame))
	number(helloInFlight, uint64(h.maxInFlight))
	if h.probe {
		b = abi.AppendBool(abi.AppendUint(b, helloProbe), true)
	}
	if h.stream != "" {
		text(helloStream, h.stream)
	}
	return sealFrame(b, at)
}

// readHello reads the items of a hello. Keys that it does not know are those of a later version.
func readHello(r *abi.Reader, items int) (*hello, error) {
	h := &hello{}
	if items != 1 {
		r.Fail("a hello has one item")
	}
	var seen uint64
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		key := r.Uint()
		if key < 64 {
			if seen&(1<<key) != 0 {
				r.Fail("key " + strconv.FormatUint(key, 10) + " stands twice")
			}
			seen |= 1 << key
		}
		switch key {
		case helloMin:
			h.min = r.Uint()
		case helloMax:
			h.max = r.Uint()
		case helloVersion:
			h.version = r.Uint()
		case helloCluster:
			h.cluster = r.Text()
		case helloNode:
			h.node = cluster.NodeID(r.Text())
		case helloBoot:
			h.boot = r.Uint()
		case helloAuthority:
			h.authority = r.Text()
		case helloMode:
			h.mode = cluster.Mode(min(r.Uint(), 255))
		case helloFeatures:
			h.features = r.Uint()
		case helloMaxFrame:
			h.maxFrame = int(min(r.Uint(), 1<<30))
		case helloInFlight:
			h.maxInFlight = int(min(r.Uint(), maxInFlightLimit))
		case helloProbe:
			h.probe = r.Bool()
		case helloStream:
			h.stream = r.Text()
		default:
			r.Skip()
		}
	}
	r.End()
	if r.Err() == nil && seen&0b11 != 0b11 {
		r.Fail("a hello says which versions it speaks (keys 0 and 1)")
	}
	return h, r.Err()
}

// check says what is wrong with the hello of a version that is known.
func (h *hello) check() error {
	switch {
	case h.mode != cluster.Member && h.mode != cluster.Client:
		return &abi.DecodeError{Reason: "a hello of an unknown mode"}
	case len(h.authority) > maxAuthority:
		return &abi.DecodeError{Reason: "a hello with an authority of more than " + strconv.Itoa(maxAuthority) + " bytes"}
	case h.maxFrame < frameExtra || h.maxInFlight < 1:
		return &abi.DecodeError{Reason: "a hello of a node that takes no requests"}
	case h.stream != "" && (h.probe || !abi.ValidMethod(h.stream)):
		return &abi.DecodeError{Reason: "a hello that opens a stream of no name, or probes at the same time"}
	}
	return nil
}

const maxAuthority = 300 // bytes: a DNS name and a port

// Bounds of what a node may say about the kinds it hosts.
const (
	maxKinds      = 1 << 16
	kindsPerFrame = 128 // ≤ 128 × 65 bytes
)

// appendKinds appends the frames that carry a list of kinds.
func appendKinds(b []byte, version uint64, kinds []string) []byte {
	for {
		part := kinds[:min(len(kinds), kindsPerFrame)]
		kinds = kinds[len(part):]
		at := len(b)
		b = openFrame(b, 4, frameKinds)
		b = abi.AppendUint(b, version)
		b = abi.AppendBool(b, len(kinds) == 0)
		b = abi.AppendArray(b, len(part))
		for _, k := range part {
			b = abi.AppendText(b, k)
		}
		b = sealFrame(b, at)
		if len(kinds) == 0 {
			return b
		}
	}
}

// kindsReader puts the parts of a list together.
type kindsReader struct {
	version uint64
	parts   []string
}

// read takes the items of a frame; when it was the last part, done is true and kinds is the list.
func (k *kindsReader) read(r *abi.Reader, items int) (version uint64, kinds []string, done bool, err error) {
	if items != 3 {
		r.Fail("a kinds frame has three items")
	}
	version = r.Uint()
	done = r.Bool()
	n := r.Array()
	if version != k.version {
		k.version, k.parts = version, nil // the rest of an older one will not come
	}
	if len(k.parts)+n > maxKinds {
		r.Fail("more than " + strconv.Itoa(maxKinds) + " kinds")
	}
	for ; n > 0 && r.Err() == nil; n-- {
		kind := r.Text()
		if err := abi.CheckKind(kind); err != nil {
			r.Fail(err.Error())
		}
		k.parts = append(k.parts, kind)
	}
	r.End()
	if r.Err() != nil || !done {
		return version, nil, false, r.Err()
	}
	kinds, k.parts = k.parts, nil
	return version, kinds, true, nil
}

// appendRefusal appends the last frame of a connection.
func appendRefusal(b []byte, reason Reason, text string) []byte {
	at := len(b)
	b = openFrame(b, 3, frameRefusal)
	b = abi.AppendUint(b, uint64(reason))
	b = abi.AppendText(b, printable(text))
	return sealFrame(b, at)
}

func readRefusal(r *abi.Reader, items int) (*Refusal, error) {
	if items != 2 {
		r.Fail("a refusal has two items")
	}
	reason, text := r.Uint(), r.Text()
	r.End()
	return &Refusal{Reason: Reason(min(reason, 1<<16-1)), Text: printable(text)}, r.Err()
}
