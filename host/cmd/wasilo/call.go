package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// mostInput bounds what is read as parameters; the node's own limit is far lower by default.
const mostInput = 256 << 20

type callFlags struct {
	timeout                         time.Duration
	oneWay, ifActive, ifExists, raw bool
	key                             string
}

func (a *app) call() *cobra.Command {
	cmd := &cobra.Command{
		Use: "call KIND/ID METHOD [JSON|@FILE|-] [FLAGS]", Short: "Call an actor and print its reply", Args: takes(2, 3),
		Long: `Call a method of an actor and print the reply as one line of JSON. Parameters are JSON as an argument, from @FILE, or
from stdin with "-"; without any they are {}. The identity is everything behind the first slash.

The exit code tells what went wrong, see wasilo --help; with -o json the problem is printed as JSON on stderr.`,
		Example: `  wasilo call counter/alice add '{"by":1}'
  wasilo call chat/lobby/eu post @message.json --timeout 2s
  echo '{"amount":5}' | wasilo call bank/alice deposit - --idempotency-key order-17
  wasilo call counter/alice get --if-active
  wasilo call --node http://127.0.0.1:7710 counter/alice get -o json`,
	}
	var f callFlags
	flags := cmd.Flags()
	flags.Var(timeFlag{&f.timeout, time.Nanosecond}, "timeout", "wait at most `TIME` (default: the node's, 10s)")
	flags.BoolVar(&f.oneWay, "one-way", false, "wait for no reply, only until the message is accepted")
	flags.BoolVar(&f.ifActive, "if-active", false, "only if the actor is active now, else exit code 3")
	flags.BoolVar(&f.ifExists, "if-exists", false, "only if the actor has stored state, else exit code 3")
	flags.StringVar(&f.key, "idempotency-key", "", "`KEY` that travels to the actor with the message")
	flags.BoolVar(&f.raw, "cbor", false, "parameters (@FILE or -) and reply are CBOR as it is")
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.runCall(cmd, args, f) }
	return cmd
}

func (a *app) runCall(cmd *cobra.Command, args []string, f callFlags) error {
	target, err := abi.ParseIdentity(args[0])
	if err != nil {
		return err
	}
	if f.ifActive && f.ifExists {
		return usagef("--if-active and --if-exists exclude each other")
	}
	var params []byte
	if len(args) == 3 {
		if params, err = a.parameters(args[2], f.raw); err != nil {
			return err
		}
	}
	c, err := a.dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	opt := client.CallOptions{Timeout: f.timeout, IdempotencyKey: f.key}
	for flag, on := range map[abi.Flags]bool{abi.OneWay: f.oneWay, abi.OnlyIfActive: f.ifActive, abi.MustExist: f.ifExists} {
		if on {
			opt.Flags |= flag
		}
	}
	if f.raw {
		reply, err := c.CallCBOR(cmd.Context(), target, args[1], params, opt)
		if err == nil {
			_, err = a.stdout.Write(reply)
		}
		return err
	}
	reply, err := c.CallJSON(cmd.Context(), target, args[1], params, opt)
	if err != nil || f.oneWay {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", bytes.TrimSpace(reply))
	return err
}

// parameters reads the third argument.
func (a *app) parameters(arg string, raw bool) ([]byte, error) {
	var from io.Reader
	switch path, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "-":
		from = a.stdin
	case isFile:
		file, err := os.Open(path)
		if err != nil {
			return nil, usagef("parameters: %w", err)
		}
		defer file.Close()
		from = file
	case raw:
		return nil, usagef("with --cbor, parameters come from @FILE or -")
	case strings.TrimSpace(arg) == "":
		return nil, usagef("parameters: empty; leave them out, or write '{}'")
	default:
		return []byte(arg), nil
	}
	b, err := io.ReadAll(io.LimitReader(from, mostInput+1))
	if err != nil {
		return nil, usagef("parameters: %w", err)
	}
	if len(b) > mostInput {
		return nil, abi.NewError(abi.ErrPayloadTooLarge, "parameters of more than 256 MiB")
	}
	if len(b) == 0 { // whatever should have written them has failed
		return nil, usagef("parameters: nothing comes from %s; leave it out for none", arg)
	}
	return b, nil
}
