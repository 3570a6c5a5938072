//go:build unix

package link

import "syscall"

// tryWrite is what [sock.tryFlush] hands to the network poller; s.mu is held. It returns true in any case, which means not to wait.
func (s *sock) tryWrite(fd uintptr) bool {
	for s.off < len(s.enc) {
		n, err := syscall.Write(int(fd), s.enc[s.off:])
		switch {
		case n > 0:
			s.off += n
			s.sent.Add(uint64(n))
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		default:
			s.tryErr = err
			return true
		}
	}
	return true
}
