package serfwatch

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// network opens what carries the gossip, and enters into list where the others reach it.
func (w *Watch) network(ctx context.Context, list *memberlist.Config, logger *log.Logger) (*transport, error) {
	host, port, err := splitAddress(w.cfg.Bind, DefaultPort)
	if err != nil {
		return nil, err
	}
	if w.cfg.Transport != nil {
		list.AdvertiseAddr, list.AdvertisePort = "", port
		return wrap(w.cfg.Transport, nil, w.pace.dial), nil
	}
	bind := netip.IPv4Unspecified()
	if host != "" {
		if bind, err = w.one(ctx, "Bind", host); err != nil {
			return nil, err
		}
	}
	at, err := w.advertised(ctx, bind)
	if err != nil {
		return nil, err
	}
	// memberlist would take a host that it cannot parse for every interface: it is an address by now.
	net, got, err := listen(bind.String(), port, w.pace.dial, logger)
	if err != nil {
		return nil, err
	}
	list.BindAddr, list.BindPort = bind.String(), got
	list.AdvertiseAddr, list.AdvertisePort = at.Addr().String(), int(at.Port())
	if at.Port() == 0 {
		list.AdvertisePort = got
	}
	return net, nil
}

// advertised returns the address that other nodes are told; port 0 is the one of Bind.
func (w *Watch) advertised(ctx context.Context, bind netip.Addr) (netip.AddrPort, error) {
	what, from := "Advertise", w.cfg.Advertise
	switch {
	case from != "":
	case !bind.IsUnspecified():
		return netip.AddrPortFrom(bind, 0), nil
	case w.cfg.Authority != "":
		what, from = "Authority", w.cfg.Authority
	default:
		return netip.AddrPort{}, errors.New("gossip listens on every interface and nothing says which address the others reach: give Advertise")
	}
	host, port, err := splitAddress(from, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if what == "Authority" {
		port = 0 // that of the link
	}
	ip, err := w.one(ctx, what, host)
	if err == nil && ip.IsUnspecified() {
		err = fmt.Errorf("%s %q: other nodes cannot reach every interface", what, from)
	}
	return netip.AddrPortFrom(ip, uint16(port)), err
}

// one returns the address of a host, an IPv4 one if it has several.
func (w *Watch) one(ctx context.Context, what, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := w.resolve(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s %q: %w", what, host, err)
	}
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			return a, nil
		}
	}
	for _, a := range addrs {
		return a.WithZone(""), nil
	}
	return netip.Addr{}, fmt.Errorf("%s %q: the name has no address", what, host)
}
