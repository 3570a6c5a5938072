package consensus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// TestHostileStreams: a stream that does not begin as it has to never comes into raft's hands, and is told why.
func TestHostileStreams(t *testing.T) {
	self := rid("a", 1)
	l := newLayer(self, &VoterConfig{Authority: "a:1", Log: slog.New(slog.DiscardHandler)})
	defer l.Close()
	served := make(chan RaftID)
	l.serve = func(_ *conn, from RaftID) { served <- from }
	good := preamble(self, rid("b", 2))
	for _, c := range []struct {
		name string
		says []byte
		text string
	}{
		{"another voter is meant", preamble(rid("a", 9), rid("b", 2)), "the node lost its disk"},
		{"another node speaks", preamble(self, rid("c", 2)), "its certificate is of node b"},
		{"nobody speaks", append(append([]byte{streamFormat, 18}, self.String()...), 1, 'x'), "it is no voter"},
		{"another format", append([]byte{9}, good[1:]...), "format 9"},
		{"it ends", good[:5], "whom it means"},
		{"it is silent", nil, "whom it means"},
	} {
		theirs, ours := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.take(ours, "b")
			ours.Close()
		}()
		go func() { _, _ = theirs.Write(c.says) }() // not all of it may be read
		if answer, _ := io.ReadAll(theirs); len(c.says) > 10 && (len(answer) < 2 || answer[0] != 1 || !strings.Contains(string(answer), c.text)) {
			t.Errorf("%s: it was told %q", c.name, answer)
		}
		<-ended
		theirs.Close()
	}
	theirs, ours := net.Pipe()
	go l.take(ours, "b")
	if err := knock(theirs, self, rid("b", 2)); err != nil {
		t.Error(err)
	}
	if from := <-served; from != rid("b", 2) {
		t.Error("it was taken for", from)
	}
	_ = theirs.Close()
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestKnockIsBounded: an end that answers nothing, or noise, does not keep the other.
func TestKnockIsBounded(t *testing.T) {
	for _, answer := range [][]byte{nil, {1}, {1, 200, 'x'}, bytes.Repeat([]byte{7}, 9)} {
		m := &silent{answer: answer}
		l := newLayer(rid("a", 1), &VoterConfig{Authority: "a:1", Network: m, Log: slog.New(slog.DiscardHandler)})
		began := time.Now()
		if c, err := l.Dial(rid("b", 2).address("b:1"), 200*time.Millisecond); err == nil || c != nil {
			t.Errorf("%v was taken for a welcome", answer)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("it took %s", d)
		}
		l.Close()
	}
}

// silent is a network whose other ends read what is said, answer one thing, and stay.
type silent struct {
	Network
	answer []byte
}

func (s *silent) Stream(context.Context, core.Member, string) (net.Conn, error) {
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		if _, err := io.ReadFull(b, make([]byte, len(preamble(rid("a", 1), rid("b", 2))))); err != nil {
			return
		}
		if _, err := b.Write(s.answer); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, b)
	}()
	return a, nil
}

// TestPortWithoutVoter: a node that is no voter says so.
func TestPortWithoutVoter(t *testing.T) {
	p := &Port{}
	if _, err := p.answer(t.Context(), "b", nil); err == nil || !strings.Contains(err.Error(), "there is no voter on this node") {
		t.Error(err)
	}
	theirs, ours := net.Pipe()
	go func() {
		p.take(ours, "b")
		ours.Close()
	}()
	if answer, _ := io.ReadAll(theirs); len(answer) < 2 || answer[0] != 1 || !strings.Contains(string(answer), "no voter") {
		t.Errorf("%q", answer)
	}
}
