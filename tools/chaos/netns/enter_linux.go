package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// find looks for a system command also where the PATH of a user may not lead.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// Missing says what the machine lacks for [New], nil if nothing.
func Missing() error {
	e := &MissingError{}
	if _, err := find("ip"); err != nil {
		e.What = append(e.What, "the command ip (Debian: iproute2)")
	}
	_, noNft := find("nft")
	_, noIptables := find("iptables-restore")
	if noNft != nil && noIptables != nil {
		e.What = append(e.What, "the command nft (Debian: nftables), or iptables-restore (iptables)")
	}
	if h, err := newHost(-1); err != nil {
		e.What = append(e.What, "a network namespace ("+err.Error()+"): CAP_SYS_ADMIN, which root has outside of containers that take it away; "+
			"or user namespaces for everybody: "+userNamespaces())
	} else {
		close(h.work)
		<-h.ended
	}
	if len(e.What) == 0 {
		return nil
	}
	return e
}

// userNamespaces says how the kernel is set about them.
func userNamespaces() string {
	var all []string
	for _, s := range []struct{ file, want string }{
		{"/proc/sys/user/max_user_namespaces", "above 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "1, where it is there"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0, where it is there"},
	} {
		value := "not there"
		if text, err := os.ReadFile(s.file); err == nil {
			value = strings.TrimSpace(string(text))
		} else if !errors.Is(err, os.ErrNotExist) {
			value = err.Error()
		}
		all = append(all, s.file+" is "+value+" (must be "+s.want+")")
	}
	return strings.Join(all, ", ")
}

// entered marks the process that Enter has started.
const entered = "NETNS_ENTERED"

// Enter sees to it that [New] works for a user who is not root, where the kernel allows that: it runs the program again, with the
// same arguments, as root of a user namespace, and ends this process as that one ends. It returns where there is nothing to be gained,
// in the new process among others. Call it first in main.
func Enter() {
	if os.Getenv(entered) != "" || unprivileged() == nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), entered+"=1")
	runtime.LockOSThread() // it dies with this thread
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if cmd.Start() != nil {
		runtime.UnlockOSThread()
		return // New will say what is missing
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// unprivileged tries to make a namespace.
func unprivileged() error {
	h, err := newHost(-1)
	if err != nil {
		return err
	}
	close(h.work)
	<-h.ended
	return nil
}
