package abi

import "time"

// Defaults of a node; configuration may change them for a node or a kind.
const (
	DefaultMaxMessage  = 1 << 20          // bytes of a payload, either way
	DefaultMailbox     = 1024             // messages waiting at one actor
	DefaultTurn        = 5 * time.Second  // one turn, its waiting included
	DefaultRequest     = 10 * time.Second // a request that names no time of its own
	DefaultIdle        = 10 * time.Minute // without a message, then passivated
	DefaultMemory      = 64 << 20         // bytes of a guest's linear memory
	DefaultMaxOutgoing = 1024             // requests, calls and tells of one turn
	DefaultMaxTimers   = 1024             // timers of one activation
)

// Limits that are part of the ABI.
const (
	MaxMethodLen       = 127      // bytes of [A-Za-z0-9_.-]
	MaxTimerNameLen    = 127      // bytes of UTF-8
	MaxErrorCodeLen    = 127      // bytes; a longer one is cut
	MaxErrorMessageLen = 16 << 10 // bytes; a longer one is cut
	MaxErrorDetailsLen = 12 << 10 // bytes; longer ones are left out, since half a CBOR item is none
	MaxTraceLen        = 512      // bytes of each of traceparent and tracestate
	MaxIdempotencyLen  = 255      // bytes
	MaxChain           = 64       // actors waiting for one another in one call chain
	MaxDescription     = 256 << 10
	MaxKindsPerModule  = 256
	MaxMethodsPerKind  = 1024
	MaxFieldsPerRecord = 256      // of a schema
	MaxEffects         = 16 << 10 // of one output
	MaxDepth           = 64       // arrays, maps and tags inside one another, in any CBOR item
	InboxKeep          = 64 << 10 // an inbox that held more than this is released after the turn
	MaxEnvelopeExtra   = 32 << 10 // bytes of an event beside its payload, at the most

	// MaxDuration is what a longer time reads as: 100 years.
	MaxDuration = 100 * 365 * 24 * time.Hour
)
