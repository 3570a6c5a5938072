package chat_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/guests/examples/go/chat"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

func TestRoom(t *testing.T) {
	node := wasilotest.New(t, chat.Kind)
	room := wasilo.ID("chat", "lobby")
	history := func() []chat.Message {
		t.Helper()
		h, err := wasilotest.Call[chat.History](node, room, "history", wasilo.None{})
		if err != nil {
			t.Fatal(err)
		}
		return h.Messages
	}
	send := func(method string, in any, code string) {
		t.Helper()
		_, err := wasilotest.Call[wasilo.None](node, room, method, in)
		if wasilo.CodeOf(err) != code || (err == nil) != (code == "") {
			t.Errorf("%s %+v: %v, want code %q", method, in, err, code)
		}
	}
	if h := history(); h == nil || len(h) != 0 {
		t.Errorf("a new room has the history %v", h)
	}
	send("post", chat.Message{From: "ann", Text: "hi"}, chat.NotAMember)
	send("join", chat.Join{Member: "ann"}, "")
	send("join", chat.Join{Member: "ann"}, "")
	send("join", chat.Join{Member: ""}, chat.InvalidMember)
	send("join", chat.Join{Member: strings.Repeat("x", chat.MaxName+1)}, chat.InvalidMember)
	send("post", chat.Message{From: "ann", Text: ""}, chat.InvalidText)
	send("post", chat.Message{From: "ann", Text: strings.Repeat("x", chat.MaxText+1)}, chat.InvalidText)
	send("post", chat.Message{From: "ann", Text: "hi"}, "")
	if h := history(); len(h) != 1 || h[0] != (chat.Message{From: "ann", Text: "hi"}) {
		t.Errorf("the history is %v", h)
	}
	for i := range chat.MaxHistory + 5 {
		send("post", chat.Message{From: "ann", Text: strconv.Itoa(i)}, "")
	}
	h := history()
	if len(h) != chat.MaxHistory || h[0].Text != "5" || h[len(h)-1].Text != strconv.Itoa(chat.MaxHistory+4) {
		t.Errorf("%d messages, from %q to %q", len(h), h[0].Text, h[len(h)-1].Text)
	}
	for i := range chat.MaxMembers - 1 {
		send("join", chat.Join{Member: strconv.Itoa(i)}, "")
	}
	send("join", chat.Join{Member: "late"}, chat.RoomFull)
	send("join", chat.Join{Member: "ann"}, "")
}
