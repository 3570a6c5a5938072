package cluster

import (
	"errors"
	"sync"
)

// Readiness says how the last start of the extension went.
type Readiness string

// The states of readiness.
const (
	ReadinessUnknown  Readiness = ""         // none is recorded: install
	ReadinessReady    Readiness = "ready"    // it came up: install
	ReadinessDisabled Readiness = "disabled" // do not install
	ReadinessError    Readiness = "error"    // do not install until somebody has looked at the reason
)

// Status is what a [StatusStore] keeps.
type Status struct {
	Readiness Readiness
	Kind      BootstrapErrorKind // of an error, as far as it is known
	Reason    string             // of an error; of disabled, who did it
}

// disabledByConfig is the reason of a disabled that ends when the configuration no longer says so. Any other one was
// recorded on purpose and stays until it is cleared.
const disabledByConfig = "configuration"

// StatusStore keeps the readiness of a node's cluster extension, so that it can be asked for and outlives the process. It
// is read before an install does anything, and a failure of either method blocks the install. Saving the zero
// [Status] clears it.
type StatusStore interface {
	Load() (Status, error)
	Save(Status) error
}

// MemoryStatus is a [StatusStore] that lives as long as the process. The zero value is empty and ready; it may be
// used from any goroutine.
type MemoryStatus struct {
	mu     sync.Mutex
	status Status
}

var _ StatusStore = (*MemoryStatus)(nil)

// Load returns what was saved last.
func (s *MemoryStatus) Load() (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status, nil
}

// Save replaces the status.
func (s *MemoryStatus) Save(st Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = st
	return nil
}

// Admits decides from a stored status whether [Install] goes on, in which case err is nil too: false without an error is a node that was
// disabled on purpose, an error one whose earlier failure nobody has cleared, a [*BootstrapError]. A recorded fault of the configuration
// does not stand in the way: the configuration is checked anyway, and whoever mended it needs nothing else.
func (s Status) Admits() (install bool, err error) {
	switch s.Readiness {
	case ReadinessUnknown, ReadinessReady:
		return true, nil
	case ReadinessDisabled:
		return s.Reason == disabledByConfig, nil
	case ReadinessError:
		if s.Kind == InvalidConfig {
			return true, nil
		}
		return false, &BootstrapError{Kind: EarlierFailure, Err: errors.New(s.Reason +
			"; once its cause is mended, clear the recorded status: `wasilo status clear`, or StatusStore.Save(cluster.Status{})")}
	}
	return false, &BootstrapError{Kind: StatusStoreFailed, Err: errors.New("it holds an unknown readiness " + string(s.Readiness))}
}
