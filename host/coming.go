package host

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/module"
)

// Which kinds a module has is known once it is compiled, which takes seconds. So while a node of the cluster is loading one, a kind that
// nobody hosts may be one of its, and whoever calls it is told to try again in place of that there is none.

// coming says why a kind that nobody is known to host may be there in a moment, "" if nothing speaks for it. It does not block.
func (n *Node) coming(kind string) string {
	if why := n.comingHere(kind); why != "" {
		return why
	}
	return n.comingElsewhere(kind)
}

// comingHere is coming as far as this node's own modules go.
func (n *Node) comingHere(kind string) string {
	if n.catalog == nil {
		return ""
	}
	loads, _ := n.catalog.Loading()
	if len(loads) > 0 {
		return "no kind " + kind + " yet: the node is loading " + loadsText(loads, time.Now()) + "; try again"
	}
	if _, ok := n.catalog.Kind(kind); ok {
		return "the kind " + kind + " has been loaded just now; try again"
	}
	return ""
}

// comingElsewhere is coming as far as other nodes go. They are asked first, so that whoever comes here at that time has to try again.
func (n *Node) comingElsewhere(kind string) string {
	if n.net == nil {
		return ""
	}
	text, known := n.net.outlook.look()
	switch {
	case !known:
		return "no kind " + kind + " is known, and the other nodes have not said yet whether they are loading it; try again"
	case text != "":
		return "no kind " + kind + " yet: " + text + "; try again"
	}
	return ""
}

// loadsText names files that are being loaded, and how long each has been.
func loadsText(loads []module.Load, now time.Time) string {
	const show = 4
	var b strings.Builder
	for i, l := range loads[:min(show, len(loads))] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(filepath.Base(l.Path) + " for " + now.Sub(l.Since).Truncate(100*time.Millisecond).String())
	}
	if more := len(loads) - show; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// loadingService is what nodes ask each other for: nothing, answered by a CBOR text that names the files which the node is loading, ""
// for none.
const loadingService = "loading"

// loading answers other nodes that ask what this one is loading.
func (n *Node) loading(context.Context, cluster.NodeID, []byte) ([]byte, error) {
	text := ""
	if n.catalog != nil {
		loads, _ := n.catalog.Loading()
		text = loadsText(loads, time.Now())
	}
	return abi.AppendText(nil, text), nil
}

var _ link.Service = (*Node)(nil).loading

// outlook knows whether other nodes are loading modules. It asks them when somebody wants to know, all at once, and what they say counts for
// [outlookFresh]. One that does not answer is loading nothing.
type outlook struct {
	others func() []cluster.Node
	ask    func(ctx context.Context, node cluster.Node, service string, payload []byte) ([]byte, error)

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	asking bool
	text   string
	at     time.Time // of the answer; zero: there has been none
}

const (
	// outlookFresh is longer than any back-off: whoever was told to try again finds the answer.
	outlookFresh  = 600 * time.Millisecond
	outlookTime   = time.Second // for all answers
	outlookAsking = 16          // questions at a time
)

func newOutlook(others func() []cluster.Node, ask func(context.Context, cluster.Node, string, []byte) ([]byte, error)) *outlook {
	o := &outlook{others: others, ask: ask}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// look returns what others are loading, "" for nothing. It is not known while they are asked.
func (o *outlook) look() (text string, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return "", true
	case o.asking:
		return "", false
	case !o.at.IsZero() && time.Since(o.at) < outlookFresh:
		return o.text, true
	}
	others := o.others()
	if len(others) == 0 {
		return "", true
	}
	o.asking = true
	o.work.Go(func() {
		text := o.question(others)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asking, o.text, o.at = false, text, time.Now()
	})
	return "", false
}

// question asks all of them.
func (o *outlook) question(others []cluster.Node) string {
	ctx, cancel := context.WithTimeout(o.ctx, outlookTime)
	defer cancel()
	answers := make([]string, len(others))
	slots := make(chan struct{}, outlookAsking)
	var wg sync.WaitGroup
	for i, m := range others {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b, err := o.ask(ctx, m, loadingService, nil)
			if err != nil {
				return
			}
			r := abi.NewReader(b)
			text := r.Text()
			if r.End(); r.Err() == nil && text != "" {
				answers[i] = "node " + string(m.ID) + " is loading " + text
			}
		})
	}
	wg.Wait()
	return strings.Join(slices.DeleteFunc(answers, func(s string) bool { return s == "" }), ", ")
}

func (o *outlook) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.work.Wait()
}
