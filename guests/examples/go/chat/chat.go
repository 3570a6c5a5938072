// Package chat keeps rooms: every chat/NAME is one, with its members and the last messages.
//
// It shows an actor as the one place where something is ordered: all members see the same messages in the same order,
// because the room handles one post at a time.
package chat

import "github.com/wasilo/wasilo/guests/go/wasilo"

// The codes of the errors that a room answers.
const (
	NotAMember    = "not_a_member"
	InvalidMember = "invalid_member"
	InvalidText   = "invalid_text"
	RoomFull      = "room_full"
)

// The bounds of a room: it lives in memory, and everybody may talk to it.
const (
	MaxHistory = 100 // messages; older ones are forgotten
	MaxMembers = 1000
	MaxName    = 64   // bytes
	MaxText    = 4096 // bytes
)

// Room is one room.
type Room struct {
	members map[string]bool
	history []Message
}

// Join is the input of the method.
type Join struct {
	Member string `json:"member"`
}

// Message is one message, and the input of post.
type Message struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// History is what history answers, the oldest message first.
type History struct {
	Messages []Message `json:"messages"`
}

// Join makes somebody a member; joining again changes nothing.
func (r *Room) Join(_ *wasilo.Context, in Join) (wasilo.None, error) {
	if in.Member == "" || len(in.Member) > MaxName {
		return wasilo.None{}, wasilo.Errorf(InvalidMember, "a member's name has 1 to %d bytes", MaxName)
	}
	if !r.members[in.Member] && len(r.members) >= MaxMembers {
		return wasilo.None{}, wasilo.Errorf(RoomFull, "the room has %d members already", MaxMembers)
	}
	if r.members == nil {
		r.members = make(map[string]bool)
	}
	r.members[in.Member] = true
	return wasilo.None{}, nil
}

// Post adds a message of a member's.
func (r *Room) Post(_ *wasilo.Context, in Message) (wasilo.None, error) {
	if !r.members[in.From] {
		return wasilo.None{}, wasilo.Errorf(NotAMember, "%q has not joined", in.From)
	}
	if in.Text == "" || len(in.Text) > MaxText {
		return wasilo.None{}, wasilo.Errorf(InvalidText, "a message has 1 to %d bytes", MaxText)
	}
	if len(r.history) == MaxHistory {
		copy(r.history, r.history[1:])
		r.history = r.history[:MaxHistory-1]
	}
	r.history = append(r.history, in)
	return wasilo.None{}, nil
}

// History answers the last messages.
func (r *Room) History(*wasilo.Context, wasilo.None) (History, error) { return History{r.history}, nil }

// Kind is the kind "chat".
var Kind = wasilo.Kind("chat",
	wasilo.Method("join", (*Room).Join, "Makes `member` a member."),
	wasilo.Method("post", (*Room).Post, "Adds the message `text` of the member `from`."),
	wasilo.ReadOnly("history", (*Room).History, "Answers the last 100 messages, the oldest first."),
).Doc("Chat rooms that remember what was said.").Hibernates()
