package abi

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestErrorTable(t *testing.T) {
	names := map[string]bool{}
	for i, info := range Codes() {
		c := info.Code
		if int(c) != i || c.Info() != info {
			t.Errorf("row %d is of code %d", i, c)
		}
		if names[info.Name] || !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(info.Name) {
			t.Errorf("the name %q", info.Name)
		}
		names[info.Name] = true
		if got, ok := CodeByName(info.Name); !ok || got != c || c.String() != info.Name || c.Retryable() != info.Retryable {
			t.Errorf("%q is found as %v", info.Name, got)
		}
		if info.Title == "" || strings.HasSuffix(info.Title, ".") || c.Error() != info.Name+": "+info.Title {
			t.Errorf("%v: the title %q", c, info.Title)
		}
		// The exit code follows from the rest, but for the few that say what the user did wrong.
		if info.Retryable != (info.Exit == ExitRetryable) || info.Retryable && info.Status != 503 && info.Status != 429 {
			t.Errorf("%v: retryable %v, exit %d, status %d", c, info.Retryable, info.Exit, info.Status)
		}
	}
	Codes()[1].Name = "changed"
	if ErrInternal.String() != "internal" {
		t.Error("the table can be changed from outside")
	}
	if got := Code(999); got.String() != "internal" || got.Retryable() || got.Info().Status != 500 {
		t.Errorf("a code of a later version reads as %v", got.Info())
	}
	if _, ok := CodeByName("no_such"); ok {
		t.Error("a name that is not there was found")
	}
	if int(PendingCode) < len(codes) {
		t.Error("the pending code is one of the table's")
	}
}

type coded struct{ error }

func (coded) WireCode() Code { return ErrBlocked }

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, ErrNone},
		{ErrDeadlock, ErrDeadlock},
		{fmt.Errorf("sending: %w", ErrDeadlock), ErrDeadlock},
		{NewError(ErrTrap, "x"), ErrTrap},
		{fmt.Errorf("sending: %w", NewActorError("a", "x")), ErrActor},
		{coded{errors.New("x")}, ErrBlocked},
		{fmt.Errorf("%w, %w", errors.New("x"), coded{nil}), ErrBlocked},
		{&DecodeError{}, ErrInvalidArgument},
		{context.DeadlineExceeded, ErrTimeout},
		{fmt.Errorf("waiting: %w", context.Canceled), ErrCanceled},
		{errors.New("x"), ErrInternal},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
		e := AsError(c.err)
		if c.err == nil {
			if e != nil {
				t.Errorf("no error became %v", e)
			}
			continue
		}
		if e.Code != c.want || !errors.Is(e, c.want) || errors.Is(e, ErrShuttingDown) {
			t.Errorf("%v travels as %v", c.err, e)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{NewActorError("insufficient_funds", "the balance is 3"), "actor_error insufficient_funds: the balance is 3"},
		{NewError(ErrTimeout, ""), "timeout"},
		{AsError(ErrDeadlock), "deadlock: The call would wait for itself"},
		{AsError(fmt.Errorf("sending: %w", errors.New("pipe"))), "internal: sending: pipe"},
		{&DecodeError{Offset: 3, Reason: "x"}, "malformed CBOR at byte 3: x"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	inner := &Error{Code: ErrActor, App: "a", Message: "m", Details: []byte{0xf6}}
	e := AsError(fmt.Errorf("sending: %w", inner))
	if e.App != "a" || e.Message != "sending: actor_error a: m" || string(e.Details) != "\xf6" {
		t.Errorf("wrapping lost something: %+v", e)
	}
	if AsError(inner) != inner {
		t.Error("an error that travels as it is was copied")
	}
}
