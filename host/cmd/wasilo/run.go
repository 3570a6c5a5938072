package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

const about = `Wasilo hosts virtual actors that live in .wasm files: every KIND/ID is an actor that always exists.

Exit codes:
  0  done
  1  the actor, or the node, answered an error; a node could not run
  2  wrong usage, configuration or input
  3  no such kind, method or active actor
  4  not now, trying again may help; no node answers
  5  not allowed
  6  the deadline passed; the outcome is unknown`

const aboutExample = `  wasilo dev                                   # run the modules in ./actors on 127.0.0.1:7700
  wasilo call counter/alice add '{"by":1}'     # in another terminal
  wasilo kinds
  wasilo ps
  wasilo dev --nodes 3                         # three nodes in one cluster
  wasilo members`

// app is one run of the command line.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string // as os.Environ
	output         outputFormat
}

// Run runs one command line, without the name of the program, and returns its exit code. It keeps no state, but a node
// that it runs listens to this process's signals.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: os.Environ(), output: outputText}
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	if ran := (ranError{}); errors.As(err, &ran) {
		return a.report(ran.error)
	}
	if err != nil { // cobra's own: a flag, the arguments, the name of a command
		if wantsJSON(args) {
			a.output = outputJSON
		}
		about := cmd
		if cmd.Name() == "help" {
			about = cmd.Root()
		}
		err = usagef("%w; see %s --help", err, about.CommandPath())
	}
	return a.report(err)
}

// wantsJSON looks for -o json in a command line whose flags could not be parsed.
func wantsJSON(args []string) bool {
	for i, s := range args {
		switch s {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "json":
			return i > 0 && (args[i-1] == "-o" || args[i-1] == "--output")
		}
	}
	return false
}

func (a *app) command() *cobra.Command {
	version := a.version()
	var showVersion bool
	root := &cobra.Command{
		Use: "wasilo", Short: "Virtual actors in WebAssembly", Long: about, Example: aboutExample,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			if showVersion {
				return version.RunE(version, nil)
			}
			return cmd.Help()
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().VarP(&a.output, "output", "o", "`FORMAT` of what is printed: text or json")
	root.PersistentFlags().SortFlags = false
	root.Flags().BoolVar(&showVersion, "version", false, "print the version, as wasilo version does")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(root, strings.Join(args, " "))
			}
			return about.Help()
		},
	})
	for _, verb := range []*cobra.Command{a.dev(), a.serve(), a.call(), a.ps(), a.kinds(), a.members(), a.drain(), a.voters(), a.inspect(),
		a.ca(), a.node(), a.status(), version} {
		for _, sub := range verb.Commands() {
			prepare(sub)
		}
		if !isGroup(verb) {
			prepare(verb)
		}
		root.AddCommand(verb)
	}
	return root
}

// prepare makes a verb's errors known as its own, and its help look like that of the others.
func prepare(verb *cobra.Command) {
	verb.Flags().SortFlags = false
	verb.DisableFlagsInUseLine = true
	run := verb.RunE
	verb.RunE = func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return ranError{err}
		}
		return nil
	}
}

// groupMark is an annotation of what [group] has made.
const groupMark = "group"

func isGroup(cmd *cobra.Command) bool {
	_, is := cmd.Annotations[groupMark]
	return is
}

// group makes a command of others, which by itself shows its help.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.DisableFlagsInUseLine = true
	cmd.Annotations = map[string]string{groupMark: ""}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownVerb(cmd, args[0])
		}
		return cmd.Help()
	}
	cmd.AddCommand(verbs...)
	return cmd
}

func unknownVerb(root *cobra.Command, name string) error {
	var known []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	return fmt.Errorf("unknown command %q%s", name, didYouMean(name, known))
}

// flagError says more about a flag that there is not.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	if unknown.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("%w; an argument that begins with '-' goes behind --", err)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if best := nearest(unknown.GetSpecifiedName(), known); best != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, best)
	}
	return err
}

// takes checks the number of a verb's arguments.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("too few arguments: it is %s", cmd.UseLine())
		case len(args) > most:
			return fmt.Errorf("one argument too many, %q: it is %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// ranError marks an error of a verb, as opposed to one of how it was typed.
type ranError struct{ error }

func (e ranError) Unwrap() error { return e.error }

// usageError is the caller's mistake: exit code 2.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

func (e *usageError) Error() string      { return e.err.Error() }
func (e *usageError) Unwrap() error      { return e.err }
func (e *usageError) WireCode() abi.Code { return abi.ErrInvalidArgument }

// report prints err, as one line or as a problem, and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return abi.ExitOK
	}
	exit := abi.CodeOf(err).Info().Exit
	if a.output == outputJSON {
		if line, jerr := json.Marshal(gateway.NewProblem(err)); jerr == nil {
			fmt.Fprintf(a.stderr, "%s\n", line)
			return exit
		}
	}
	fmt.Fprintf(a.stderr, "wasilo: %s\n", oneLine(err.Error()))
	return exit
}

// outputFormat is the value of -o.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

func (o *outputFormat) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *outputFormat) Set(s string) error {
	switch f := outputFormat(s); f {
	case outputText, outputJSON:
		*o = f
		return nil
	}
	return errors.New(`must be "text" or "json"`)
}

// Type implements pflag.Value.
func (o *outputFormat) Type() string { return "format" }

// printJSON writes v as one line on stdout.
func (a *app) printJSON(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(a.stdout, "%s\n", line)
	}
	return err
}
