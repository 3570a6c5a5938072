package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// OperatorTime bounds the work on what an operator asks for, also where [Config.DefaultTimeout] is longer: clients tell by it a node that
// works from one that hangs.
const OperatorTime = 25 * time.Second

// Operator is what operators ask of a node beside looking at it. All of it is called from many goroutines at once; errors carry codes.
type Operator interface {
	// Voters lists the voters as far as they can be asked.
	Voters(ctx context.Context) (VoterList, error)
	// AddVoter makes a node a voter. even allows an even number of them.
	AddVoter(ctx context.Context, node string, even bool) (VoterChange, error)
	// RemoveVoter takes a vote away: that of a node, or of one of its raft ids.
	RemoveVoter(ctx context.Context, which string, even bool) (VoterChange, error)
	// Drain has the node give its actors away, or take such again. It returns at once; [Operator.Drained] says how far it is.
	Drain(undo bool) (DrainInfo, error)
	// Drained says how far a drain is.
	Drained() DrainInfo
	// Block puts a node on the block list, or takes it off, for the whole cluster.
	Block(ctx context.Context, node string, undo bool) (BlockInfo, error)
}

// VoterList is the answer to GET /v1/voters.
type VoterList struct {
	Leader     string `json:"leader,omitempty"` // a node; none while the voters have none, or it cannot be asked
	Term       uint64 `json:"term"`
	Generation uint32 `json:"generation"` // how many lives the log has had, see wasilo voters recover
	Index      uint64 `json:"index"`      // of the log, as the node that answers has it
	// Voters are those that have a vote, and nodes that wait for one.
	Voters []VoterInfo `json:"voters"`
}

// States of a [VoterInfo], beside those of a voter that does not answer.
const (
	VoterVoting  = "voting"
	VoterWaiting = "waiting"     // for the other voters, so that the log can begin
	VoterNone    = "not_a_voter" // it is ready to be one
	VoterFailed  = "failed"
	VoterUnknown = "unknown" // it does not answer
)

// VoterInfo is one voter, as it says itself.
type VoterInfo struct {
	ID    string `json:"id"`              // of the node
	Voter string `json:"voter,omitempty"` // its raft id, NODE#NONCE; another one after its disk was lost
	Link  string `json:"link,omitempty"`
	Leads bool   `json:"leads,omitempty"`
	State string `json:"state"`
	// ContactMS is how long ago it heard of the leader, in milliseconds; absent on the leader, and if it never has.
	ContactMS *int64 `json:"contact_ms,omitempty"`
	Last      uint64 `json:"last,omitempty"`     // index of its last entry
	Applied   uint64 `json:"applied,omitempty"`  // index of the last entry that it has applied
	Snapshot  uint64 `json:"snapshot,omitempty"` // index of its last snapshot
	Problem   string `json:"problem,omitempty"`
}

// VoterChange is the answer to a change of the voters.
type VoterChange struct {
	Voter string `json:"voter"` // raft id of the one that was added or removed
	Count int    `json:"count"` // of voters there are now
}

// DrainInfo is how far a drain is: the answer of /v1/drain.
type DrainInfo struct {
	Draining bool `json:"draining"`
	Done     bool `json:"done"` // it has ended: nothing is left, or what is left stays
	// Partitions are those that the node owns yet, and Moving the moves under way; 0 without voters.
	Partitions int `json:"partitions"`
	Moving     int `json:"moving"`
	Actors     int `json:"actors"` // that are active here yet
	// Stays says what stays with the node, and why; "" for nothing.
	Stays string `json:"stays,omitempty"`
}

// BlockInfo is the answer to /v1/members/{id}/block.
type BlockInfo struct {
	Node    string `json:"node"`
	Blocked bool   `json:"blocked"`
	// Known says whether a node of that id is in sight.
	Known bool `json:"known"`
	// Told are the nodes that know of it. With voters it is in their log, and there is none.
	Told   []string    `json:"told,omitempty"`
	Missed []Unreached `json:"missed,omitempty"`
}

// Unreached is a node that could not be told.
type Unreached struct {
	Node  string `json:"node"`
	Error string `json:"error"`
}

// Paths of operators.
const (
	votersPath  = "/v1/voters"
	drainPath   = "/v1/drain"
	membersPath = "/v1/members"
	blockSuffix = "/block"
)

// VoterPath is the path of one voter, escaped.
func VoterPath(which string) string { return votersPath + "/" + escapeSegment(which) }

// BlockPath is the path of one node's block.
func BlockPath(node string) string { return membersPath + "/" + escapeSegment(node) + blockSuffix }

// operate answers what operators ask; ok is false for other paths.
func (g *Gateway) operate(w http.ResponseWriter, r *http.Request, path string) (status int, ok bool, err error) {
	var serve func(http.ResponseWriter, *http.Request) (int, error)
	switch {
	case path == votersPath:
		serve = g.voters
	case path == drainPath:
		serve = g.drain
	case strings.HasPrefix(path, votersPath+"/"):
		serve = segment(path[len(votersPath)+1:], g.voter)
	case strings.HasPrefix(path, membersPath+"/") && strings.HasSuffix(path, blockSuffix) && len(path) > len(membersPath)+len(blockSuffix)+1:
		serve = segment(path[len(membersPath)+1:len(path)-len(blockSuffix)], g.block)
	default:
		return 0, false, nil
	}
	if g.operator == nil {
		return 0, true, noPage()
	}
	if r.Method == http.MethodPut || r.Method == http.MethodDelete {
		if err := noBody(r); err != nil {
			return 0, true, err
		}
	}
	status, err = serve(w, r)
	return status, true, err
}

// noBody refuses a body: all there is to say is in the path and the query.
func noBody(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if n, err := io.ReadFull(r.Body, make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return abi.NewError(abi.ErrInvalidArgument, "there is no body here: what is asked for is in the path and the query")
}

// segment gives a page the one segment of its path that is a name.
func segment(raw string, page func(http.ResponseWriter, *http.Request, string) (int, error)) func(http.ResponseWriter, *http.Request) (int, error) {
	return func(w http.ResponseWriter, r *http.Request) (int, error) {
		name, err := url.PathUnescape(raw)
		if err != nil || strings.Contains(raw, "/") {
			return 0, noPage()
		}
		return page(w, r, name)
	}
}

// working is the context of what an operator asks for.
func (g *Gateway) working(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), min(g.defaultTimeout, OperatorTime))
}

func (g *Gateway) voters(w http.ResponseWriter, r *http.Request) (int, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return 0, methodNotAllowed(r.Method, "GET, HEAD")
	}
	ctx, cancel := g.working(r)
	defer cancel()
	list, err := g.operator.Voters(ctx)
	if err != nil {
		return 0, err
	}
	if list.Voters == nil {
		list.Voters = []VoterInfo{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (g *Gateway) voter(w http.ResponseWriter, r *http.Request, which string) (int, error) {
	var change func(context.Context, string, bool) (VoterChange, error)
	switch r.Method {
	case http.MethodPut:
		change = g.operator.AddVoter
	case http.MethodDelete:
		change = g.operator.RemoveVoter
	default:
		return 0, methodNotAllowed(r.Method, "PUT, DELETE")
	}
	args, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, abi.NewError(abi.ErrInvalidArgument, "the query: "+err.Error())
	}
	even := false
	switch args.Get("even") {
	case "", "false":
	case "true":
		even = true
	default:
		return 0, abi.NewError(abi.ErrInvalidArgument, "even is true or false")
	}
	ctx, cancel := g.working(r)
	defer cancel()
	done, err := change(ctx, which, even)
	if err != nil {
		return 0, err
	}
	return writeJSON(w, http.StatusOK, done)
}

func (g *Gateway) drain(w http.ResponseWriter, r *http.Request) (int, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return writeJSON(w, http.StatusOK, g.operator.Drained())
	case http.MethodPut, http.MethodDelete:
		info, err := g.operator.Drain(r.Method == http.MethodDelete)
		if err != nil {
			return 0, err
		}
		return writeJSON(w, http.StatusOK, info)
	}
	return 0, methodNotAllowed(r.Method, "GET, HEAD, PUT, DELETE")
}

func (g *Gateway) block(w http.ResponseWriter, r *http.Request, node string) (int, error) {
	if r.Method != http.MethodPut && r.Method != http.MethodDelete {
		return 0, methodNotAllowed(r.Method, "PUT, DELETE")
	}
	ctx, cancel := g.working(r)
	defer cancel()
	info, err := g.operator.Block(ctx, node, r.Method == http.MethodDelete)
	if err != nil {
		return 0, err
	}
	return writeJSON(w, http.StatusOK, info)
}
