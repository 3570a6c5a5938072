package wasilo

import (
	"errors"
	"fmt"

	"github.com/wasilo/wasilo/abi"
)

// Error is a failed request as it travels. Requests to other actors fail with one; errors.Is(err, abi.ErrDeadlock) and
// the like tell them apart, and for an actor's own error (abi.ErrActor) its App is that actor's code.
type Error = abi.Error

// Identity names an actor: a kind and an identity within it. As a field it travels as the text KIND/IDENTITY.
type Identity = abi.Identity

// NewIdentity checks and joins a kind and an identity. The error, returned by a handler, is an invalid_argument.
func NewIdentity(kind, id string) (Identity, error) { return abi.NewIdentity(kind, id) }

// ID is [NewIdentity] for names known to be good. Where they are not it returns the zero Identity, and whatever is sent
// to that fails as an invalid_argument.
func ID(kind, id string) Identity {
	i, err := abi.NewIdentity(kind, id)
	if err != nil {
		return Identity{}
	}
	return i
}

// Errorf returns an error of the actor's own, an [*Error]: code is for programs (snake_case by custom, 1 to 127 bytes),
// the rest for people.
func Errorf(code, format string, args ...any) error {
	return abi.NewActorError(code, fmt.Sprintf(format, args...))
}

// CodeOf returns the code that an actor gave its error ("insufficient_funds"), "" for errors of any other origin.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Code == abi.ErrActor {
		return e.App
	}
	return ""
}

// wireError is what travels for an error that a handler returned. A plain error is the actor's own, without a code: the
// node did not fail.
func wireError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return abi.AsError(err) // keeps what wrapping added to the message
	}
	if code := abi.CodeOf(err); code != abi.ErrInternal {
		return abi.NewError(code, err.Error())
	}
	return abi.NewActorError("", err.Error())
}

// refused is the error for a host call that answered a negative code.
func refused(code int64, doing string) error {
	c := abi.Code(-code)
	if code >= 0 || -code > 1<<15 {
		c = abi.ErrInternal // no answer that the ABI knows
	}
	return abi.NewError(c, doing+": "+c.Info().Title)
}
