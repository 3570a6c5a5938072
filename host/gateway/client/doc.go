// Package client calls a node's gateway from Go: actors by JSON, CBOR or Go values, and what operators list.
//
// Every failure that the node answered comes back as an [*abi.Error] with the code, the actor's own code and the
// message of the problem; what could not reach a node is one too. A node that cannot be dialled is not_ready, which is
// retryable, since nothing was sent; a connection that broke after that is internal, since the outcome is unknown; the
// end of the context or of the call's time is timeout or canceled.
//
// A [Client] may be used from many goroutines at once. It keeps connections; [Client.Close] lets go of idle ones.
package client
