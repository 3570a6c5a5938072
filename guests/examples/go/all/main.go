// Command all is one module that serves all four example kinds. Build it for a node from this folder by
//
//	GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -ldflags="-s -w" -o examples.wasm .
package main

import (
	"github.com/wasilo/wasilo/guests/examples/go/counter"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

func init() { wasilo.Serve(counter.Kind) }

func main() {}
