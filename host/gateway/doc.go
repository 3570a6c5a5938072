// Package gateway is a node's HTTP side: actors for clients, a view of the node for operators.
//
//	POST /v1/actors/{kind}/{id}/{method}   one call, JSON or CBOR
//	GET  /v1/actors?kind=&state=&after=&limit=    which actors are active or sleep, page by page
//	GET  /v1/kinds                         what can be called, where it is hosted, and which module files failed
//	GET  /v1/members                       the nodes of the cluster as this one sees them
//	PUT, DELETE /v1/members/{id}/block     a node is kept from hosting actors, or not any more
//	GET  /v1/voters                        who keeps the log of who owns what
//	PUT, DELETE /v1/voters/{id}[?even=true] a node becomes a voter, or is one no more
//	GET, PUT, DELETE /v1/drain             the node gives its actors away, or takes some again
//	GET  /livez, /readyz[?verbose]         probes
//	GET  /metrics                          Prometheus
//	GET  /                                 what to type next
//
// The identity is one percent-escaped path segment. Nothing here cleans paths, so "a%2Fb", "%2E%2E" and any other UTF-8
// without control characters reach the actor of just that identity.
//
// A body is JSON or CBOR by its Content-Type; without one it is JSON, and an empty body is the empty map. The reply is
// what Accept prefers, and what the request was on a tie. JSON becomes CBOR by the schema that the method declares, so
// guests read CBOR alone. Every error is an RFC 9457 problem with a code of the table in package abi and whether trying
// again may help; a retryable one carries Retry-After.
//
// Headers of a call, beside W3C traceparent and tracestate (which are dropped when malformed, as that document asks):
//
//	Wasilo-Timeout: 2s | 2000       how long the caller waits (a Go duration, or milliseconds), at most Config.MaxTimeout
//	Wasilo-If: active | exists      do not activate; do not create
//	Wasilo-One-Way: true            answer 202 as soon as the actor's mailbox took the message
//	Idempotency-Key: KEY            travels to the actor with the message
//
// # Who may call
//
// Nobody authenticates yet, so the gateway serves this machine alone: [Listen] refuses every address that is not
// loopback. Browsers on this machine are the remaining way in for others. A request whose Host header is not loopback is
// refused (DNS rebinding), and so is one that a page from elsewhere sends (its Origin). There is no CORS.
//
// # Promises
//
// A [Gateway] may serve any number of requests at once. A request goes to the node on the goroutine of its connection;
// the gateway itself starts none but those of net/http, which [Gateway.Shutdown] ends. A shutdown cuts nobody off who is in
// time: clients that come are refused, those that are here are answered, and their connections close behind an answer. A
// client that opens more connections than Config.MaxConns is told so, or takes the place of one that rests (crowd.go). A
// panic under a request becomes a problem and a log record; the node stays up. No body is read beyond its bound.
package gateway
