package abi

import (
	"context"
	"errors"
)

// Code is one entry of the error table: what went wrong, in a form that every node, SDK and script shares. It is an
// error itself, so errors.Is(err, abi.ErrDeadlock) works on whatever carries that code.
type Code uint16

// The error table. The numbers travel on the wire: append, never reorder, never reuse.
const (
	ErrNone             Code = 0
	ErrInternal         Code = 1  // a defect or a resource of the node
	ErrInvalidArgument  Code = 2  // the caller's input: identity, payload, header
	ErrUnknownKind      Code = 3  // no module serves the kind
	ErrUnknownMethod    Code = 4  // the kind has no such method
	ErrNotActive        Code = 5  // only-if-active was asked, and it is not
	ErrActor            Code = 6  // the actor's own error, with its own code
	ErrDeadlock         Code = 7  // the turn would wait for itself
	ErrMailboxFull      Code = 8  // the actor has too many messages waiting
	ErrPayloadTooLarge  Code = 9  // over the message limit
	ErrUnauthenticated  Code = 10 // who are you?
	ErrDenied           Code = 11 // not allowed
	ErrUnsupported      Code = 12 // a reserved name, or not built in this version
	ErrTrap             Code = 13 // the guest broke: trap, panic, exit, or a breach of the ABI
	ErrLimitExceeded    Code = 14 // a limit of the turn: time, memory, calls
	ErrTimeout          Code = 15 // the caller's deadline passed; the outcome is unknown
	ErrCanceled         Code = 16 // the caller went away; the outcome is unknown
	ErrShuttingDown     Code = 17 // the node is leaving
	ErrOwnershipChanged Code = 18 // the actor moved; nothing was done
	ErrNoQuorum         Code = 19 // this node cannot prove that it owns the actor
	ErrBlocked          Code = 20 // the owner is on the block list
	ErrOverloaded       Code = 21 // no room: for another activation, or for more messages under way
	ErrNotReady         Code = 22 // the kind is still compiling, or the node starting
	ErrActivationFailed Code = 23 // the guest could not be started
	ErrUnreachable      Code = 24 // the actor's node could not be reached; nothing was sent
	ErrOutcomeUnknown   Code = 25 // it may have been done: the connection was lost, or the activation ended, before the reply
	ErrStateUnusable    Code = 26 // what the actor left when it was hibernated is damaged, or of another module; it is kept, nothing was done
)

// CodeInfo is a row of the error table.
type CodeInfo struct {
	Code      Code
	Name      string // on the wire and in JSON, snake_case
	Retryable bool   // nothing was done, and trying again later may succeed
	Status    int    // HTTP status
	Exit      int    // exit code of the command line
	Title     string // one human sentence
}

// Exit codes of the command line.
const (
	ExitOK        = 0
	ExitActor     = 1 // the actor, or the node behind it, answered an error
	ExitUsage     = 2
	ExitNotFound  = 3
	ExitRetryable = 4
	ExitDenied    = 5
	ExitDeadline  = 6
)

var codes = [...]CodeInfo{
	{ErrNone, "ok", false, 200, ExitOK, "No error"},
	{ErrInternal, "internal", false, 500, ExitActor, "The node failed"},
	{ErrInvalidArgument, "invalid_argument", false, 400, ExitUsage, "The request is malformed"},
	{ErrUnknownKind, "unknown_kind", false, 404, ExitNotFound, "No such kind of actor"},
	{ErrUnknownMethod, "unknown_method", false, 404, ExitNotFound, "The actor has no such method"},
	{ErrNotActive, "not_active", false, 404, ExitNotFound, "The actor is not active"},
	{ErrActor, "actor_error", false, 422, ExitActor, "The actor answered an error"},
	{ErrDeadlock, "deadlock", false, 409, ExitActor, "The call would wait for itself"},
	{ErrMailboxFull, "mailbox_full", true, 429, ExitRetryable, "The actor has too many messages waiting"},
	{ErrPayloadTooLarge, "payload_too_large", false, 413, ExitUsage, "The message is too large"},
	{ErrUnauthenticated, "unauthenticated", false, 401, ExitDenied, "Credentials are missing or invalid"},
	{ErrDenied, "denied", false, 403, ExitDenied, "Not allowed"},
	{ErrUnsupported, "unsupported", false, 501, ExitActor, "Not supported by this node"},
	{ErrTrap, "trap", false, 500, ExitActor, "The actor crashed"},
	{ErrLimitExceeded, "limit_exceeded", false, 500, ExitActor, "The actor exceeded a limit"},
	{ErrTimeout, "timeout", false, 504, ExitDeadline, "The deadline passed"},
	{ErrCanceled, "canceled", false, 499, ExitDeadline, "The caller went away"},
	{ErrShuttingDown, "shutting_down", true, 503, ExitRetryable, "The node is shutting down"},
	{ErrOwnershipChanged, "ownership_changed", true, 503, ExitRetryable, "The actor moved to another node"},
	{ErrNoQuorum, "no_quorum", true, 503, ExitRetryable, "The node cannot reach a quorum"},
	{ErrBlocked, "blocked", true, 503, ExitRetryable, "The actor's node is blocked"},
	{ErrOverloaded, "overloaded", true, 503, ExitRetryable, "The node takes no more at present"},
	{ErrNotReady, "not_ready", true, 503, ExitRetryable, "The kind or the node is not ready yet"},
	{ErrActivationFailed, "activation_failed", false, 500, ExitActor, "The actor could not be started"},
	{ErrUnreachable, "unreachable", true, 503, ExitRetryable, "The actor's node cannot be reached"},
	{ErrOutcomeUnknown, "outcome_unknown", false, 503, ExitActor, "Whether it was done is not known"},
	{ErrStateUnusable, "state_unusable", false, 500, ExitActor, "The actor's state cannot be used"},
}

// Codes returns the error table in order of number.
func Codes() []CodeInfo { return append([]CodeInfo(nil), codes[:]...) }

// Info returns c's row; a code from a newer node reads as internal.
func (c Code) Info() CodeInfo {
	if int(c) < len(codes) {
		return codes[c]
	}
	return codes[ErrInternal]
}

// String returns the wire name.
func (c Code) String() string { return c.Info().Name }

// Error makes a bare code usable as an error.
func (c Code) Error() string { return c.Info().Name + ": " + c.Info().Title }

// Retryable reports whether nothing was done and trying again later may succeed.
func (c Code) Retryable() bool { return c.Info().Retryable }

// CodeByName finds a code by its wire name.
func CodeByName(name string) (Code, bool) {
	for _, info := range codes {
		if info.Name == name {
			return info.Code, true
		}
	}
	return ErrNone, false
}

// Error is a failed request as it travels between guests, nodes and clients.
type Error struct {
	Code    Code
	App     string // with ErrActor: the actor's own code, snake_case by custom
	Message string // for people
	Details []byte // CBOR, may be nil; opaque to the host
}

// NewError returns an error of code with a message for people.
func NewError(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// NewActorError returns an actor's own error.
func NewActorError(app, message string) *Error {
	return &Error{Code: ErrActor, App: app, Message: message}
}

func (e *Error) Error() string {
	s := e.Code.String()
	if e.App != "" {
		s += " " + e.App
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is makes errors.Is(err, abi.ErrX) true for an error of code ErrX.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// WireCode returns the code.
func (e *Error) WireCode() Code { return e.Code }

// CodeOf classifies any error: one that carries a code (a WireCode method, or a bare [Code]) keeps it, a context's end
// is a timeout or a cancellation, nil is ErrNone, everything else is internal.
func CodeOf(err error) Code {
	if err == nil {
		return ErrNone
	}
	var coded interface{ WireCode() Code }
	if errors.As(err, &coded) {
		return coded.WireCode()
	}
	var code Code
	if errors.As(err, &code) {
		return code
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	}
	return ErrInternal
}

// AsError turns any error into the form that travels. The message keeps what wrapping added around an inner *Error.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	switch e := err.(type) {
	case *Error:
		return e
	case Code:
		return &Error{Code: e, Message: e.Info().Title}
	}
	out := &Error{Code: CodeOf(err), Message: err.Error()}
	var inner *Error
	if errors.As(err, &inner) {
		out.App, out.Details = inner.App, inner.Details
	}
	return out
}
