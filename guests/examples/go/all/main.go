// Command all is one module that serves the four example kinds: bank, chat, counter and ratelimit. In this folder,
//
//	GOOS=wasip1 GOARCH=wasm go build -trimpath -buildmode=c-shared -ldflags="-s -w" -o examples.wasm .
//
// makes the file that a node loads. Built natively it does nothing.
package main

import (
	"github.com/wasilo/wasilo/guests/examples/go/bank"
	"github.com/wasilo/wasilo/guests/examples/go/chat"
	"github.com/wasilo/wasilo/guests/examples/go/counter"
	"github.com/wasilo/wasilo/guests/examples/go/ratelimit"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

func init() { wasilo.Serve(bank.Kind, chat.Kind, counter.Kind, ratelimit.Kind) }

func main() {}
