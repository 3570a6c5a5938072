// Wasilo runs virtual actors that live in .wasm files, and talks to the nodes that do. See wasilo --help.
//
// This package turns flags, variables and a file into a [host.Config] or into a call of the gateway's client, one file a
// verb; what a node is and does stands in package host.
package main

import "os"

func main() {
	os.Exit(Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
