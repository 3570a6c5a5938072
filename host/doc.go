// Package host is a wasilo node as a library: what the binary wasilo runs, with native Go actors beside wasm ones.
//
//	node, err := host.New(host.Config{HTTP: "127.0.0.1:7700", ActorsDir: "actors", DataDir: "data"})
//	if err == nil {
//		err = node.Start(ctx)
//	}
//	…
//	err = node.Shutdown(ctx)
//
// A node is the sum of its parts and adds little of its own: host/engine runs guests, host/module follows the directory of
// .wasm files, host/silo keeps the activations, cluster decides which actors live here, host/gateway serves HTTP.
// Start listens first, so that a port in use costs no compiling, and serves at once: until the modules are loaded
// /readyz says so and requests are refused as not_ready. Shutdown is the same road back: unready and closed to clients,
// actors drained, gateway closed, everything waited for. No goroutine outlives it. A native actor that ignores the
// deadline of its turn holds it up, and is named in the log.
package host
