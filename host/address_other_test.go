//go:build !linux

package host

import (
	"net"
	"testing"
)

// ownAddress returns an address of loopback that was free just now.
func ownAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
