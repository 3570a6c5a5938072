package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// noNewcomers is a socket filter that drops the segment which asks for a connection (SYN without ACK) and lets all others
// pass: handshakes under way still end, and connections that inherit the filter do not notice it. Offset 13 of a TCP header
// holds its flags.
var noNewcomers = []syscall.SockFilter{
	{Code: syscall.BPF_LD | syscall.BPF_B | syscall.BPF_ABS, K: 13},
	{Code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, K: 0x12},
	{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: 0x02, Jf: 1},
	{Code: syscall.BPF_RET | syscall.BPF_K, K: 0},
	{Code: syscall.BPF_RET | syscall.BPF_K, K: 1<<32 - 1},
}

// holdBack keeps new connections from the listener's queue. Whoever knocks meanwhile hears nothing, knocks again after a
// second by TCP's own rules, and is refused then. A Linux without such filters goes on as other systems do.
func holdBack(l *net.TCPListener) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		//lint:ignore SA1019 the package that is named instead writes filters; to attach one it takes this call
		_ = syscall.AttachLsf(int(fd), noNewcomers)
	})
}

// waiting reports whether somebody is in the listener's queue, who would be reset with it.
func waiting(l *net.TCPListener) (is bool) {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(look, 0)
			if err != unix.EINTR {
				is = n > 0 && look[0].Revents&unix.POLLIN != 0
				return
			}
		}
	})
	return is
}
