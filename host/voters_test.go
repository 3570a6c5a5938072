package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
)

func raftID(t *testing.T, text string) consensus.RaftID {
	t.Helper()
	id, err := consensus.ParseRaftID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWireOfVoters(t *testing.T) {
	n1, n2 := raftID(t, "n1#0000000000000001"), raftID(t, "n2#0000000000000002")
	view := voterView{id: n1, state: consensus.Voting, leading: true, term: 2, last: 3, applied: 4, snapshot: 5, contact: -1, config: 6, leader: "n1",
		members: []voterSeat{{n1, "h:1"}, {n2, "h:2"}}}
	change := voterChange{remove: true, which: "n1", even: true}
	done := voterChanged{led: true, leader: cluster.Node{ID: "n1", Authority: "h:1"}, voter: "n1#0000000000000001", count: 3}
	read := map[string]func(b []byte) (any, error){
		"view":   func(b []byte) (any, error) { v, err := readVoterView(b); return v, err },
		"change": func(b []byte) (any, error) { v, err := readVoterChange(b); return v, err },
		"done":   func(b []byte) (any, error) { v, err := readVoterChanged(b); return v, err },
	}
	for name, c := range map[string]struct {
		b    []byte
		want any
	}{"view": {view.append(nil), view}, "change": {change.append(nil), change}, "done": {done.append(nil), done}} {
		got, err := read[name](c.b)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
		for i := range c.b { // cut short, or with something behind
			if _, err := read[name](c.b[:i]); abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Errorf("%s: %d bytes are %v", name, i, err)
			}
		}
		if _, err := read[name](append(c.b, 0)); err == nil {
			t.Errorf("%s: with a byte behind", name)
		}
		newer := append([]byte(nil), c.b...)
		newer[1] = votersVersion + 1
		if _, err := read[name](newer); err == nil || !strings.Contains(err.Error(), "update it") {
			t.Errorf("%s: of a newer version: %v", name, err)
		}
	}
}

func TestVotersAsOperatorsSeeThem(t *testing.T) {
	n1, n2, n3, other := raftID(t, "n1#0000000000000001"), raftID(t, "n2#0000000000000002"), raftID(t, "n3#0000000000000003"), raftID(t, "n2#00000000000000ff")
	seats := []voterSeat{{n1, ""}, {n2, ""}}
	views := []voterView{
		{id: n1, state: consensus.Voting, leading: true, term: 1, members: []voterSeat{{n3, ""}}, config: 1}, // deposed, and does not know it
		{id: n3, state: consensus.Voting, leading: true, term: 2, members: seats, config: 5},
		{id: n2, err: errors.New("away"), term: 9, leading: true},
	}
	if got, leader := seatsOf(views); !reflect.DeepEqual(got, seats) || leader == nil || leader.id != n3 {
		t.Errorf("%+v, led by %+v", got, leader)
	}
	views[0].leading, views[1].leading = false, false
	if got, leader := seatsOf(views); !reflect.DeepEqual(got, seats) || leader != nil {
		t.Errorf("without a leader: %+v, led by %+v", got, leader)
	}
	for _, c := range []struct {
		view           voterView
		state, problem string
	}{
		{voterView{id: n1, state: consensus.Voting}, gateway.VoterVoting, ""},
		{voterView{id: n2, err: errors.New("away")}, gateway.VoterUnknown, "away"},
		{voterView{id: n3, state: consensus.NotVoter}, gateway.VoterNone, ""},
		{voterView{id: n3, state: consensus.Waiting}, gateway.VoterWaiting, ""},
		{voterView{id: other, state: consensus.NotVoter}, gateway.VoterNone, "lost its disk"},
	} {
		if got := c.view.info(seats); got.State != c.state || !strings.Contains(got.Problem, c.problem) || c.problem == "" && got.Problem != "" {
			t.Errorf("%+v is %+v", c.view, got)
		}
	}
}

func TestErrorsOfVoterChanges(t *testing.T) {
	for _, c := range []struct {
		err  error
		code abi.Code
		says string
	}{
		{fmt.Errorf("x: %w", consensus.ErrChangeRunning), abi.ErrNotReady, "x"},
		{fmt.Errorf("x: %w", consensus.ErrEvenVoters), abi.ErrInvalidArgument, "even"},
		{consensus.ErrRefused, abi.ErrInvalidArgument, ""},
		{consensus.ErrClosed, abi.ErrShuttingDown, ""},
		{consensus.ErrOutcomeUnknown, abi.ErrOutcomeUnknown, "wasilo voters list"},
		{context.DeadlineExceeded, abi.ErrOutcomeUnknown, "wasilo voters list"},
		{abi.NewError(abi.ErrUnsupported, "no such service"), abi.ErrInvalidArgument, "node n4 has no voter to be added: start it again with --voter"},
		{abi.NewError(abi.ErrUnreachable, "away"), abi.ErrUnreachable, "away"},
		{errors.New("something"), abi.ErrNotReady, "something"},
	} {
		err := voterError(voterChange{which: "n4"}, c.err)
		if abi.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}

// A node that an operator has blocked stays so when it does not refuse connections any more.
func TestB2_3_AnOperatorsBlockOutlastsARefusal(t *testing.T) {
	n := &network{runtime: start(t, Config{}).runtime}
	n.block("n2", false)
	n.unblock("n2")
	if got := n.runtime.Blocked(); len(got) != 1 || got[0] != "n2" {
		t.Errorf("%v are blocked", got)
	}
	n.block("n2", true)
	n.runtime.HandleBlockedNode("n2") // now for a refusal alone
	n.unblock("n2")
	if got := n.runtime.Blocked(); len(got) != 0 {
		t.Errorf("%v are blocked", got)
	}
}
