package cbor

import (
	"encoding/hex"
	"strconv"
	"strings"

	fx "github.com/fxamacker/cbor/v2"

	"github.com/wasilo/wasilo/abi"
)

// The bounds on counts are beyond what a message of the default size can hold, where each item takes a byte.
const (
	maxArrayElements = abi.DefaultMaxMessage
	maxMapPairs      = abi.DefaultMaxMessage / 2
)

// maxDiagnosed bounds what [Diagnose] writes out, since it may stand in a log line or in a terminal.
const maxDiagnosed = 16 << 10

// Modes of fxamacker/cbor, immutable.
var (
	encMode = must(fx.EncOptions{
		Sort:          fx.SortCoreDeterministic,
		ShortestFloat: fx.ShortestFloatNone, // as FromJSON writes them, so that guests read one form
		NaNConvert:    fx.NaNConvertPreserveSignal,
		InfConvert:    fx.InfConvertNone,
		BigIntConvert: fx.BigIntConvertReject,
		Time:          fx.TimeRFC3339NanoUTC,
		TimeTag:       fx.EncTagNone,
		NilContainers: fx.NilContainerAsEmpty, // a reply's empty list is [], as other languages would have it
		IndefLength:   fx.IndefLengthForbidden,
	}.EncMode())

	decMode = must(fx.DecOptions{
		DupMapKey:         fx.DupMapKeyEnforcedAPF,
		IndefLength:       fx.IndefLengthForbidden,
		MaxNestedLevels:   abi.MaxDepth,
		MaxArrayElements:  maxArrayElements,
		MaxMapPairs:       maxMapPairs,
		UTF8:              fx.UTF8RejectInvalid,
		IntDec:            fx.IntDecConvertSignedOrFail, // any integer read into an any is an int64
		BignumTag:         fx.BignumTagForbidden,
		FieldNameMatching: fx.FieldNameMatchingCaseSensitive,
		MapKeyByteString:  fx.MapKeyByteStringForbidden,
	}.DecMode())

	diagMode = must(fx.DiagOptions{
		MaxNestedLevels:  abi.MaxDepth,
		MaxArrayElements: maxArrayElements,
		MaxMapPairs:      maxMapPairs,
	}.DiagMode())
)

// must unwraps a mode; that its options contradict one another would show at once.
func must[M any](mode M, err error) M {
	if err != nil {
		panic(err)
	}
	return mode
}

// Marshal encodes a Go value: map keys sorted, nil slices and maps as empty ones, times as RFC 3339 text in UTC. Struct
// fields go by their `cbor` tags, else their `json` tags, else their names.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes exactly one item into the Go value that v points to. Unknown map keys are ignored, names must match
// to the letter, an integer read into an any is an int64 or an error. The error is a [*SyntaxError] (without a path
// below the root), also where the input is well-formed but does not fit v; v may be partly filled then.
func Unmarshal(cb []byte, v any) error {
	if err := Wellformed(cb); err != nil {
		return err
	}
	if err := decMode.Unmarshal(cb, v); err != nil {
		return &SyntaxError{Input: "CBOR", Path: "$", Reason: strings.TrimPrefix(err.Error(), "cbor: "), err: err}
	}
	return nil
}

// Wellformed reports whether cb is exactly one item that this system carries: definite lengths, text in UTF-8, at most
// [abi.MaxDepth] arrays, maps and tags inside one another, nothing after it. It accepts just what [abi.Reader.Item] does,
// which is to say that duplicate keys and the meaning of tags are for whoever reads the item. The error is a
// [*SyntaxError].
func Wellformed(cb []byte) error {
	r := abi.NewReader(cb)
	r.Skip()
	r.End()
	err, _ := r.Err().(*abi.DecodeError)
	if err == nil {
		return nil
	}
	return &SyntaxError{Input: "CBOR", Path: "$", Offset: err.Offset, Reason: err.Reason, err: err}
}

// Diagnose shows one item in diagnostic notation (RFC 8949, section 8) for people. What is malformed, or longer than 16
// KiB, is shown as the reason or length and its first bytes; there is no input that fails.
func Diagnose(cb []byte) string {
	const head = 32
	start := "h'" + hex.EncodeToString(cb[:min(len(cb), head)]) + "'"
	if len(cb) > head {
		start += "…"
	}
	if err, _ := Wellformed(cb).(*SyntaxError); err != nil {
		return "malformed at byte " + strconv.Itoa(err.Offset) + ", " + err.Reason + ": " + start
	}
	if len(cb) > maxDiagnosed {
		return strconv.Itoa(len(cb)) + " bytes: " + start
	}
	s, err := diagMode.Diagnose(cb)
	if err != nil {
		return "not shown, " + strings.TrimPrefix(err.Error(), "cbor: ") + ": " + start
	}
	return s
}
