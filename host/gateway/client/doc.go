// Package client calls a node's gateway from Go: actors by JSON, CBOR or Go values, and what operators list.
//
// Every failure that the node answered comes back as an [*abi.Error] with the code, the actor's own code and the
// message of the problem; what could not reach a node is one too. A node that cannot be dialled is not_ready, which is
// retryable, since nothing was sent; a connection that broke after that is internal, since the outcome is unknown; the
// end of the context or of the call's time is timeout or canceled. A node that accepts connections and does not answer is a timeout
// too: after 30 seconds, or, for a call that names no time, once it has not even said for 20 that it lives.
//
// A [Client] may be used from many goroutines at once. It keeps connections; [Client.Close] lets go of idle ones.
package client
