package wasilo

// Host is what an instance may ask of whoever runs it: the imports of ABI v1, one to one. In a module the node answers;
// in a native test package wasilotest does. Negative results are error codes, negated.
type Host interface {
	// Request sends the encoded request and waits. Its outcome is written to dst and its length returned; one that is
	// longer than dst is kept for Take(0, …).
	Request(req, dst []byte) int64
	// Start sends the encoded request and returns a handle above 0 at once.
	Start(req []byte) int64
	// Wait waits until need of the handles (uint32, little endian) have an outcome or ms milliseconds have passed
	// (negative: the turn's deadline) and returns how many have one.
	Wait(handles []byte, need int, ms int64) int64
	// Take writes the outcome of a handle to dst and returns its length; it is consumed if it fits. There being none
	// yet is -abi.PendingCode.
	Take(handle uint32, dst []byte) int64
	// Now returns the time in nanoseconds since 1970 UTC.
	Now() int64
	// Random fills dst.
	Random(dst []byte) int64
	// Log writes a line to the node's log. Levels: 0 debug, 1 info, 2 warning, 3 error.
	Log(level int32, msg string)
}
