package host

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// ownAddress returns an address of loopback at which nodes of this test may listen, one after the other. Until the test ends nobody else gets its
// port: a socket that is bound and does not listen keeps it from all who take any, and lets those have it who name it.
func ownAddress(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.(*syscall.SockaddrInet4).Port))
}

func TestAReservedAddressIsListenedAtAgain(t *testing.T) {
	address := ownAddress(t)
	for range 3 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Fatal("it is there though nobody listens")
		}
	}
}
