package cluster

import (
	"errors"
	"strconv"

	"github.com/wasilo/wasilo/abi"
)

// What a caller can meet while ownership is in motion. They are codes of package abi, so errors.Is works with either name.
const (
	ErrShuttingDown     = abi.ErrShuttingDown
	ErrOwnershipChanged = abi.ErrOwnershipChanged
	ErrBlocked          = abi.ErrBlocked
	ErrTimeout          = abi.ErrTimeout
)

// BootstrapErrorKind sorts the ways in which the extension cannot be brought up.
type BootstrapErrorKind string

// The kinds of [BootstrapError].
const (
	InvalidConfig       BootstrapErrorKind = "invalid configuration"
	TopologyUnavailable BootstrapErrorKind = "topology unavailable"
	BridgeFailed        BootstrapErrorKind = "partition bridge failed"
	StatusStoreFailed   BootstrapErrorKind = "status store failed"
	// EarlierFailure: the status store remembers a failure that nobody has cleared.
	EarlierFailure BootstrapErrorKind = "an earlier start failed"
)

// BootstrapError says why the extension was not brought up; nothing of it exists then.
type BootstrapError struct {
	Kind BootstrapErrorKind
	Err  error
}

func (e *BootstrapError) Error() string { return "cluster: " + string(e.Kind) + ": " + e.Err.Error() }
func (e *BootstrapError) Unwrap() error { return e.Err }

// WireCode returns invalid_argument for a wrong configuration, else not_ready.
func (e *BootstrapError) WireCode() abi.Code {
	if e.Kind == InvalidConfig {
		return abi.ErrInvalidArgument
	}
	return abi.ErrNotReady
}

// ErrNotInstalled is the reason of every [APIError].
var ErrNotInstalled = errors.New("the cluster extension is not installed: call cluster.Install before System.Start, " +
	"and leave Config.Disabled off")

// APIError says that a system has no cluster API.
type APIError struct{ Reason error }

func (e *APIError) Error() string { return "cluster: no API: " + e.Reason.Error() }
func (e *APIError) Unwrap() error { return e.Reason }

// WireCode returns unsupported.
func (e *APIError) WireCode() abi.Code { return abi.ErrUnsupported }

// Why an actor was not resolved. Beside these a [ResolveError] has [ErrShuttingDown], [ErrBlocked], [ErrTimeout],
// abi.ErrCanceled, abi.ErrNotActive, abi.ErrDeadlock, abi.ErrInvalidArgument and [ErrMalformedPID] as its reason.
var (
	ErrClusterNotStarted = errors.New("the cluster has not started")
	ErrKindNotRegistered = errors.New("the kind is not registered")
	ErrLookupFailed      = errors.New("the lookup failed")
	ErrNotResolvable     = errors.New("the reference cannot be resolved")
)

// ResolveError says which actor was not resolved, and why.
type ResolveError struct {
	Identity Identity // zero for a PID that is none
	Reason   error    // to branch on: one of the sentinels above
	Err      error    // what it came from, or nil
	Code     abi.Code // on the wire

	others bool // other nodes are the reason
}

func (e *ResolveError) Error() string {
	s := "resolve: "
	if !e.Identity.IsZero() {
		s = "resolve " + strconv.Quote(e.Identity.Key()) + ": "
	}
	switch {
	case e.Err == nil:
		return s + e.Reason.Error()
	case errors.Is(e.Err, e.Reason): // it says so itself
		return s + e.Err.Error()
	}
	if code, ok := e.Reason.(abi.Code); ok {
		return s + code.String() + ": " + e.Err.Error()
	}
	return s + e.Reason.Error() + ": " + e.Err.Error()
}

// Unwrap returns the reason and what it came from.
func (e *ResolveError) Unwrap() []error { return both(e.Reason, e.Err) }

// WireCode returns the code.
func (e *ResolveError) WireCode() abi.Code { return e.Code }

// Is makes errors.Is work with the code.
func (e *ResolveError) Is(target error) bool { return isCode(target, e.Code) }

// Why a request failed. Beside these a [RequestError] has [ErrTimeout], abi.ErrCanceled, or the code that the actor's side
// answered as its reason.
var (
	ErrResolutionFailed = errors.New("the actor could not be resolved; nothing was sent")
	ErrSendFailed       = errors.New("sending failed")
)

// RequestError says which request failed, and why.
type RequestError struct {
	Identity Identity
	Method   string
	Reason   error // to branch on: one of the sentinels above, or a code
	Attempts int   // how often it was tried
	Err      error // the last real cause; never nil
}

func (e *RequestError) Error() string {
	if _, ok := e.Err.(*ResolveError); ok && e.Reason == ErrResolutionFailed {
		return e.Err.Error() // it names the actor, and that nothing was sent is plain
	}
	s := "request " + strconv.Quote(e.Identity.String()) + " " + e.Method + ": "
	switch code, ok := e.Reason.(abi.Code); {
	case !ok:
		s += e.Reason.Error() + ": "
	case code == abi.ErrTimeout, code == abi.ErrCanceled:
		s += code.String()
		if e.Attempts > 1 {
			s += " after " + strconv.Itoa(e.Attempts) + " attempts"
		}
		s += ": "
	}
	return s + e.Err.Error()
}

// Unwrap returns the reason and the cause.
func (e *RequestError) Unwrap() []error { return both(e.Reason, e.Err) }

// WireCode returns the code of the cause, and timeout for a time-out; but if it is certain that nothing was done in all that
// time, the retryable code of what stood in the way, for instance unreachable.
func (e *RequestError) WireCode() abi.Code {
	if gave, ok := e.Err.(*gaveUp); ok {
		return gave.WireCode()
	}
	if code, ok := e.Reason.(abi.Code); ok {
		return code
	}
	return abi.CodeOf(e.Err)
}

// Is makes errors.Is work with the code.
func (e *RequestError) Is(target error) bool { return isCode(target, e.WireCode()) }

func isCode(target error, code abi.Code) bool {
	c, ok := target.(abi.Code)
	return ok && c == code
}

func both(reason, err error) []error {
	if err == nil {
		return []error{reason}
	}
	return []error{reason, err}
}
