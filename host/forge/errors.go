package forge

import (
	"fmt"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// Error says why a module was refused.
type Error struct {
	Offset   int    // in the file, in bytes, where the refused thing stands
	Section  string // the name of the section; "" for what concerns the file
	Function int    // index of the function in whose body it stands; -1 elsewhere
	Reason   string // for people: what is wrong, and what to do where that is known
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Section != "" {
		b.WriteString(e.Section + " section, ")
	}
	if e.Function >= 0 {
		fmt.Fprintf(&b, "function %d, ", e.Function)
	}
	fmt.Fprintf(&b, "byte %d: %s", e.Offset, e.Reason)
	return b.String()
}

// WireCode is always invalid_argument: the file is what is wrong.
func (e *Error) WireCode() abi.Code { return abi.ErrInvalidArgument }
