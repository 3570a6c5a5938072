//go:build !linux

package netns

import (
	"context"
	"net"
	"os/exec"
)

// Network cannot be made here.
type Network struct{ Hosts []*Host }

// Host cannot be made here.
type Host struct{}

// Missing says that this is not Linux.
func Missing() error {
	return &MissingError{What: []string{"Linux: other systems have no network namespaces"}}
}

// Enter does nothing here.
func Enter() {}

// New fails.
func New(int) (*Network, error) { return nil, Missing() }

// Close does nothing.
func (*Network) Close() {}

// Set fails.
func (*Network) Set([]Drop) error { return Missing() }

// Dial fails.
func (*Host) Dial(context.Context, string, string) (net.Conn, error) { return nil, Missing() }

// Start fails.
func (*Host) Start(*exec.Cmd) error { return Missing() }
