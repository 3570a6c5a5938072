// Package netns makes a small network of hosts on one Linux machine: network namespaces, each joined by a veth pair to a
// bridge, which is in a namespace of its own. Hosts can be cut off from each other, in one direction too.
//
// Nothing of it has a name outside of the process. Each namespace is that of a thread which the package keeps, and a process
// that is started on a host dies with that thread. So nothing is left behind, however the process ends, there is nothing to
// clean up after an earlier run, and several may run at once; interfaces and filters of the machine are not touched.
//
// It takes root, or [Enter], which gets as much in a user namespace where the kernel lets everybody have one; `ip`; and `nft` or
// `iptables-restore`. [Missing] says what is not there.
package netns

import "fmt"

// Addr is the address of the i-th host, from 0.
func Addr(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// Drop is a direction in which nothing arrives: what the host From sends does not reach To.
type Drop struct{ From, To int }

// Between drops both ways between each of one side and each of the other.
func Between(one, other []int) (all []Drop) {
	for _, a := range one {
		for _, b := range other {
			all = append(all, Drop{a, b}, Drop{b, a})
		}
	}
	return all
}

// MissingError says what a machine lacks for namespaces, and what to do.
type MissingError struct{ What []string }

func (e *MissingError) Error() string {
	s := "this machine has no network namespaces for tests:"
	for _, w := range e.What {
		s += "\n  - " + w
	}
	return s
}
