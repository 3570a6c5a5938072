package serfwatch

import (
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster"
)

// How often a seed that is no member is joined: briskly by a node that is alone, without pressing by one that has company.
var (
	lonely = cluster.RetryPolicy{Initial: 250 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3}
	sought = cluster.RetryPolicy{Initial: time.Second, Max: 30 * time.Second, Jitter: 0.3}
)

// How often it is looked whether a seed still is a member, by address and by name: a name is asked for.
const (
	lookAddress = 2 * time.Second
	lookName    = 30 * time.Second
	resolveTime = 5 * time.Second
)

// pause is how long to wait after so many tries in a row to join a seed; 0 is for one that is a member.
func pause(tries int, alone, named bool, random float64) time.Duration {
	switch {
	case tries == 0 && named:
		return lookName
	case tries == 0:
		return lookAddress
	case alone:
		return lonely.Backoff(tries, random)
	}
	return sought.Backoff(tries, random)
}

// follow keeps a seed joined until ctx ends. first is told once whether it was joined at once; it is not if it is this node.
func (w *Watch) follow(ctx context.Context, seed string, first chan<- bool) {
	host, _, _ := net.SplitHostPort(seed)
	_, notIP := netip.ParseAddr(host)
	tries, failures := 0, 0
	for {
		missing, err := w.missing(ctx, seed)
		if err == nil && len(missing) == 0 {
			tries, failures = 0, 0
		} else {
			tries++
			if err == nil {
				err = w.join(missing)
			}
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				failures++
				if bits.OnesCount(uint(failures)) == 1 { // the 1st, 2nd, 4th, …
					w.log.Warn("cannot join the cluster through a seed; trying on", "seed", seed, "err", plain(err.Error(), 300),
						"failures", failures, "hint", hintFor(err))
				}
			case tries == 1 || failures > 0:
				w.log.Info("joined the cluster through a seed", "seed", seed, "failures", failures)
				failures = 0
			}
		}
		if first != nil {
			first <- tries > 0 && err == nil
			first = nil
		}
		timer := time.NewTimer(pause(tries, w.picture.Load().present == 0, notIP != nil, rand.Float64()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// missing returns the addresses of a seed that are neither this node's nor those of a live member.
func (w *Watch) missing(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, err // not after Config's checks
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := w.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	live := w.picture.Load().live
	var missing []netip.AddrPort
	for _, a := range addrs {
		at := netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port))
		if _, ok := live[at]; !ok && at != w.addr {
			missing = append(missing, at)
		}
	}
	return missing, nil
}

// join exchanges the member list with whoever answers at the addresses. The error is nil if one did.
func (w *Watch) join(addrs []netip.AddrPort) error {
	var failed error
	joined := false
	for _, a := range addrs {
		_, err := w.serf.Join([]string{a.String()}, true)
		if err == nil {
			joined = true
			continue
		}
		if inner := errors.Unwrap(err); inner != nil { // memberlist's list of one
			err = inner
		}
		failed = errors.Join(failed, err)
	}
	if joined {
		return nil
	}
	return failed
}

// hintFor says what a failed join may come from. memberlist's errors are text alone.
func hintFor(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "the name is not known"
	case strings.Contains(err.Error(), "dial "), strings.Contains(err.Error(), "i/o timeout"):
		return "nothing answers there yet"
	}
	return "something answers there and refuses: another cluster name, another gossip key, or no gossip port"
}

// lookup returns the addresses of a host, an IP address or a name.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
