package main

import (
	"bytes"
	"encoding/json"

	"github.com/wasilo/wasilo/host"
)

// announcement is the one line that a node prints on stdout when it is ready and asked for JSON.
type announcement struct {
	URL    string `json:"url"`
	ID     string `json:"id"`
	Link   string `json:"link,omitempty"`
	Gossip string `json:"gossip,omitempty"`
	PID    int    `json:"pid,omitempty"` // of several nodes
}

// announce prints where the node is, for scripts that let it choose a port and for whoever holds its leash.
func (a *app) announce(node *host.Node, c *settings) error {
	if a.output != outputJSON && !c.leash {
		return nil
	}
	return a.printJSON(announcement{URL: node.URL(), ID: c.host.ID, Link: node.LinkAddr(), Gossip: node.GossipAddr()})
}

// announced takes a node's stdout, and sends its first line. What follows is dropped.
type announced struct {
	to   chan<- announcement // with room for one
	line []byte
	done bool
}

func (r *announced) Write(p []byte) (int, error) {
	if r.done {
		return len(p), nil
	}
	r.line = append(r.line, p...)
	if end := bytes.IndexByte(r.line, '\n'); end >= 0 || len(r.line) > mostLine {
		r.done = true
		var said announcement
		if end >= 0 && json.Unmarshal(r.line[:end], &said) == nil {
			r.to <- said
		}
	}
	return len(p), nil
}
