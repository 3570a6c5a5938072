// Package forge turns a .wasm file into a prepared module, once, when it is deployed: it validates every byte, rewrites
// the code so that whatever it does can be stopped, and takes out what would make each instantiation expensive.
//
// [Prepare] is a pure function of bytes: no clock, no randomness, no goroutine, no file. The same input and options give
// the same output on every node, so that a template built from it has one hash everywhere.
//
// # What the host gets
//
//   - Fuel: an exported i64 global ([Module.Fuel]), 0 at first. What a call is charged on the whole is the weight of the
//     basic blocks that ran. Each takes its own off the global where it begins, or one before it did, at most 256 units
//     ahead; what runs into an unreachable and weighs at most 64 is not charged. Function entries, loops, chunks of bulk
//     instructions and every 8,192 units of long code test it and call the one injected import
//     ([RefillModule].[RefillName], no parameters, no results) when it is below zero. There the host looks at its
//     deadline and its kill flag, yields to the scheduler, and sets the global anew, or panics. Nothing but that import
//     ever needs to interrupt a guest. What is below zero was used: after a memory.grow of many pages that is a lot.
//   - Stack: an exported i64 global ([Module.Stack]) that holds the bytes that are left. Functions charge an estimate of
//     their frame at entry and release it at every exit; the estimate is above what the runtime takes, by up to three
//     times for small frames. Below zero the same import is called, at function entries: the host reads both globals
//     and, the stack being spent, panics. It must never return with a negative stack. Where a call has returned to the
//     host, the global holds what it held before.
//   - Tables: where code grows one, an exported i64 global ([Module.TableLimit]) says how far. It is the host's to set, for each
//     instance.
//   - After a trap, or a panic of a host function, both globals are stale: such an instance is discarded.
//   - Start: the start function becomes an export, so that instantiating runs no guest code.
//   - In the image tier ([Image]): active data segments become [Module.Data], and all mutable globals are exported under
//     reserved names ([Module.Globals]), so that memory plus globals is all there is to save and to set.
//   - Dispatch: in the image tier, if [Options.Dispatch] asks for it, tables that nothing changes, exports or reads are no
//     part of the instances: calls through them go by injected functions. See dispatch.go.
//   - Names: what backtraces show of injected functions is told by [Injected].
//
// # Promises
//
//   - A module that Prepare accepts is valid WebAssembly 2.0, and so is what comes out. Indices are checked against the
//     original module before anything is injected: no guest can name the forge's own globals or functions.
//   - The rewritten module computes what the original computes, with the same traps, as long as fuel and stack last and
//     the lowered maxima of memory and tables are not met. Where the runtime departs from the specification in what is
//     rewritten, the specification holds: memory.init of an active segment finds it empty.
//   - No path through the code goes on for long without a test of the fuel; a way back to where it was always meets one.
//   - Time and memory that Prepare takes are linear in the size of the input. Nothing is allocated for what a count
//     declares before the count was held against its limit and against the bytes that are left.
//
// # How it is built
//
// decode reads the sections and, with a checker, validates each body (sections.go, segments.go, check.go). tierOf decides
// what kind of instances there can be. A rewriter writes the sections anew, a bodyWriter each body (body.go, fuel.go, plan.go,
// where.go), and helpers are the functions that take the place of bulk instructions, and of tables (dispatch.go). Everything that is
// added stands behind what is
// there, but for the one import, so that only functions are renumbered.
//
// Everything here may be called from any goroutine.
package forge
