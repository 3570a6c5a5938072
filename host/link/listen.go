package link

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/link/ca"
)

// ListenError says why an address cannot be served, and what to do.
type ListenError struct {
	Addr   string
	Code   abi.Code // invalid_argument: the address itself is wrong or not allowed; internal: this machine refuses it now
	Reason string
	Err    error // may be nil
}

func (e *ListenError) Error() string { return "cannot listen for nodes on " + e.Addr + ": " + e.Reason }

// Unwrap returns what the system said.
func (e *ListenError) Unwrap() error { return e.Err }

// WireCode tells a wrong configuration from a busy machine.
func (e *ListenError) WireCode() abi.Code { return e.Code }

// Listen opens addr (host:port; port 0 takes a free one) for [Link.Serve]. With credentials of the development authority it must be
// a loopback address: they prove nothing to another machine. A name is resolved once, and what it resolves to is both checked and
// bound. The error is a [*ListenError].
func Listen(ctx context.Context, addr string, credentials *ca.Credentials) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return nil, &ListenError{Addr: addr, Code: abi.ErrInvalidArgument, Err: err,
			Reason: `an address is HOST:PORT, such as "127.0.0.1:7701" or "[::1]:0"`}
	}
	if credentials.Development() {
		ip, err := loopback(ctx, host)
		if err != nil {
			return nil, &ListenError{Addr: addr, Code: abi.ErrInvalidArgument, Err: err, Reason: err.Error()}
		}
		host = ip.String()
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, &ListenError{Addr: addr, Code: abi.ErrInternal, Err: err, Reason: listenReason(err)}
	}
	return ln, nil
}

const onlyLoopback = " is not loopback, and the development authority proves a node to its own machine only. " +
	"Make an authority (`wasilo ca init`), certify each node with it (`wasilo node cert`), " +
	"and start nodes with --ca, --cert, --key and --gossip-key"

func loopback(ctx context.Context, host string) (net.IP, error) {
	if host == "" {
		return nil, errors.New("an empty host means every address of this machine, which" + onlyLoopback)
	}
	ips := []net.IPAddr{{IP: net.ParseIP(host)}}
	if ips[0].IP == nil {
		var err error
		if ips, err = net.DefaultResolver.LookupIPAddr(ctx, host); err != nil {
			return nil, err
		}
	}
	var found net.IP
	for _, a := range ips {
		if !a.IP.IsLoopback() {
			return nil, errors.New(a.IP.String() + onlyLoopback)
		}
		if found == nil || found.To4() == nil && a.IP.To4() != nil {
			found = a.IP
		}
	}
	if found == nil {
		return nil, errors.New(host + " has no address")
	}
	return found, nil
}

func listenReason(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use, perhaps by another node; stop that one, or take a free port with --link 127.0.0.1:0"
	case errors.Is(err, os.ErrPermission):
		return "not permitted; ports below 1024 need privileges, take a higher one"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}
