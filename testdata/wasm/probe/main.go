// Command probe is a guest for tests of a node: its actors do on demand whatever an actor can do, the unpleasant things
// included. It is stock Go on the SDK; what the SDK does not let an actor do, the modules in ../hostile do. Build:
//
//	GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -ldflags="-s -w" -o probe.wasm ./testdata/wasm/probe
//
// # Kind probe
//
// What it is and what it has seen:
//
//	self      {}                            → {"identity","caller","reason","method","key","epoch":{"generation","index"},"turns","remaining_ms"}
//	                                          turns counts this activation's, this one included
//	clock     {}                            → {"host_ns","wasi_ns"}, the import and Go's time.Now
//	random    {}                            → {"host","host2","wasi"}, three uint, two of the import and one of crypto/rand
//	note      {"text"}                      → {"count"}, remembers the text and who sent it
//	notes     {} (read-only)                → {"notes":[{"from","text"}]}; from is "" for clients; timers, completions and
//	                                          goroutines add notes from "timer", "then" and "background"
//
// Replies:
//
//	echo      any                           → the same item
//	bytes     bytes                         → the same bytes
//	big       {"n"}                         → text of n bytes
//	raw       {"hex"}                       → these bytes as the reply's payload, be they CBOR or not
//	fail      {"code","message"}            → an error of the actor's own
//	wire      {"code"}                      → an error with this number of the error table
//
// Other actors ("to" is KIND/ID, "params" is any item and may be absent):
//
//	call      {"to","method","params","timeout_ms","key","only_if_active"}
//	                                        → what the other one answers; its error becomes this call's
//	parallel  {"calls":[{"to","method","params"}],"any"}
//	                                        → {"first","outcomes":[{"ok","error"}]}: all started, then awaited; with "any" the
//	                                          first one only, whose index is "first", the others null
//	sequence  {"calls":[{"to","method","params"}]}
//	                                        → what the last one answers: one after the other in one turn, until one fails
//	tell      {"to","method","params"}      → {}
//	tells     {"to","n"}                    → {}; n messages `note` with the texts "0" to n-1
//	failtell  {"to"}                        → an error of code "dropped", after telling note: nothing must arrive
//	then      {"to","method","params","timeout_ms"}
//	                                        → by a `call` effect and a deferred reply; also a note "ok" or the error's text
//	fanout    {"to","n"}                    → {"n"} when n `call` effects of `note` have all succeeded
//
// Replies given later:
//
//	defer     {"name"}                      → what release says, whenever that comes
//	release   {"name","value"}              → {"released"}: how many calls it answered
//	reject    {"name","code","message"}     → {"released"}, having failed them
//
// Timers (each time one is due it notes "NAME: TEXT"):
//
//	after     {"name","ms","text"}          → {}; the timer's full name is "tick:NAME"
//	every     {"name","ms","text"}          → {}
//	cancel    {"name"}                      → {}
//
// Read-only methods that misbehave as far as the SDK lets them, which is to get an error:
//
//	sneak     {"how"} (read-only)           → an error, "how" being tell, then, timer, cancel or defer; else {}
//
// Time and memory:
//
//	spin      {"ms"}                        → {"ms"}: computes without a pause, looking at the clock
//	forever   {}                            computes and never ends, calling nothing
//	sleep     {"ms"}                        → {"ms"}: time.Sleep
//	hog       {"mb"}                        → {"mb"}: keeps so much memory; 0 for as much as it gets, until it dies
//	recurse   {}                            overflows the stack
//	background{"ms"}                        → {}; leaves a goroutine that sleeps, then notes: it gets on in later turns only
//
// The end:
//
//	panic     {"text"}                      crashes
//	exit      {"code"}                      os.Exit
//	nil       {}                            dereferences nil
//	goexit    {}                            runtime.Goexit
//
// Output:
//
//	log       {"level","text","n"}          → {}; n lines (0: one) at level debug, info, warn or error
//	print     {"text","stderr"}             → {}; to stdout or stderr
//
// # Kind relay
//
//	call      as that of probe
//	watch     {"by"}                        → {}; from now on the actor's last turn tells `note` of probe/BY: "ID: REASON"
//
// # Kind fragile
//
// Its activation depends on the name: "broken…" fails, "crash…" panics, "slow…" sleeps for a second, "clock…" sets a
// repeating timer of 50 ms.
//
//	ticks     {} (read-only)                → {"ticks"}: how often the timer was due
//	touch     {}                            → {"ticks"}
package main

import "github.com/wasilo/wasilo/guests/go/wasilo"

func init() { wasilo.Serve(probeKind, relayKind, fragileKind) }

func main() {}

// Probe is the state of a probe.
type Probe struct {
	turns   int
	reason  string
	notes   []Note
	waiting map[string][]*wasilo.Deferred[wasilo.Raw]
	hoard   [][]byte
}

// Activate remembers why.
func (p *Probe) Activate(ctx *wasilo.Context) error {
	p.reason = ctx.Reason()
	return nil
}

// counted wraps a handler so that it counts its turns.
func counted[In, Out any](fn func(*Probe, *wasilo.Context, In) (Out, error)) func(*Probe, *wasilo.Context, In) (Out, error) {
	return func(p *Probe, ctx *wasilo.Context, in In) (Out, error) {
		p.turns++
		return fn(p, ctx, in)
	}
}

var probeKind = wasilo.Kind("probe",
	wasilo.Method("self", counted((*Probe).self)),
	wasilo.Method("clock", counted((*Probe).clock)),
	wasilo.Method("random", counted((*Probe).random)),
	wasilo.Method("note", counted((*Probe).note)),
	wasilo.ReadOnly("notes", counted((*Probe).list)),

	wasilo.Method("echo", counted((*Probe).echo)),
	wasilo.Method("bytes", counted((*Probe).bytes)),
	wasilo.Method("big", counted((*Probe).big)),
	wasilo.Method("raw", counted((*Probe).raw)),
	wasilo.Method("fail", counted((*Probe).fail)),
	wasilo.Method("wire", counted((*Probe).wire)),

	wasilo.Method("call", counted((*Probe).call)),
	wasilo.Method("parallel", counted((*Probe).parallel)),
	wasilo.Method("sequence", counted((*Probe).sequence)),
	wasilo.Method("tell", counted((*Probe).tell)),
	wasilo.Method("tells", counted((*Probe).tells)),
	wasilo.Method("failtell", counted((*Probe).failTell)),
	wasilo.Method("then", counted((*Probe).then)),
	wasilo.Method("fanout", counted((*Probe).fanOut)),

	wasilo.Method("defer", counted((*Probe).deferReply)),
	wasilo.Method("release", counted((*Probe).release)),
	wasilo.Method("reject", counted((*Probe).reject)),

	wasilo.Method("after", counted((*Probe).after)),
	wasilo.Method("every", counted((*Probe).every)),
	wasilo.Method("cancel", counted((*Probe).cancel)),
	wasilo.Timer("tick", (*Probe).tick),

	wasilo.ReadOnly("sneak", counted((*Probe).sneak)),

	wasilo.Method("spin", counted((*Probe).spin)),
	wasilo.Method("forever", counted((*Probe).forever)),
	wasilo.Method("sleep", counted((*Probe).sleep)),
	wasilo.Method("hog", counted((*Probe).hog)),
	wasilo.Method("recurse", counted((*Probe).recurse)),
	wasilo.Method("background", counted((*Probe).background)),

	wasilo.Method("panic", counted((*Probe).panic)),
	wasilo.Method("exit", counted((*Probe).exit)),
	wasilo.Method("nil", counted((*Probe).nilPointer)),
	wasilo.Method("goexit", counted((*Probe).goexit)),

	wasilo.Method("log", counted((*Probe).log)),
	wasilo.Method("print", counted((*Probe).print)),
).Doc("Does on demand what an actor can do.")
