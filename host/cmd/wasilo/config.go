package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/serfwatch"
)

const (
	envPrefix     = "WASILO_"
	defaultHTTP   = "127.0.0.1:7700"
	defaultLink   = "127.0.0.1:7701"
	defaultGossip = serfwatch.DefaultBind
	defaultFile   = "wasilo.toml"
)

// Variables that are no setting of a node. WASILO_REQUIRE is for the project's test runs.
var otherVariables = []string{"WASILO_NODE", "WASILO_CONFIG", "WASILO_REQUIRE"}

// nodeFlags declares a flag for every setting, and --config.
func nodeFlags(flags *pflag.FlagSet) {
	for _, s := range nodeSettings() {
		if s.list {
			flags.StringArray(s.name, nil, s.usage)
		} else {
			flags.Var(&textFlag{is: s.is}, s.name, s.usage)
			if s.is {
				flags.Lookup(s.name).NoOptDefVal = "true"
			}
		}
	}
	flags.String("config", "", "read `FILE` instead of ./"+defaultFile)
}

// textFlag is a flag whose text its setting reads, as that of a file or a variable.
type textFlag struct {
	text string
	is   bool // yes or no: the help shows no value
}

func (f *textFlag) String() string     { return f.text }
func (f *textFlag) Set(s string) error { f.text = s; return nil }

func (f *textFlag) Type() string {
	if f.is {
		return "bool"
	}
	return "string"
}

// loadSettings reads a node's configuration, in growing weight: defaults, the file, the environment, the flags. Every
// error names where the value stands.
func loadSettings(flags *pflag.FlagSet, env []string, defaults settings) (settings, error) {
	c := defaults
	table := nodeSettings()
	vars, err := variables(env, table)
	if err != nil {
		return c, err
	}
	file, named := vars["WASILO_CONFIG"], vars["WASILO_CONFIG"] != ""
	if f := flags.Lookup("config"); f.Changed {
		file, named = f.Value.String(), true
	}
	if !named {
		file = defaultFile
	}
	text, err := readConfig(file)
	switch {
	case err == nil:
		if err := readFile(&c, file, text, table); err != nil {
			return c, err
		}
	case named || !errors.Is(err, fs.ErrNotExist):
		return c, usagef("configuration: %w", err)
	}
	for i := range table {
		s := &table[i]
		if v, ok := vars[s.variable()]; ok {
			if err := s.set(&c, v); err != nil {
				return c, usagef("%s: %w", s.variable(), err)
			}
		}
		if f := flags.Lookup(s.name); f.Changed {
			if err := s.set(&c, flagText(f)); err != nil {
				return c, usagef("--%s: %w", s.name, err)
			}
		}
	}
	return c, nil
}

// flagText is the value of a setting's flag, those of one that was repeated with commas between.
func flagText(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return f.Value.String()
}

// maxConfig bounds a configuration file, lest a wrong name, such as that of a device, fills the memory.
const maxConfig = 1 << 20

func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		return nil, fmt.Errorf("%s has more than %s: it is no configuration", name, sizeText(maxConfig))
	}
	return text, err
}

// ofKubernetes reports whether a variable is one that Kubernetes sets in every container of a namespace which has a
// service "wasilo"; it is none of ours. See "enableServiceLinks" there.
func ofKubernetes(name string) bool {
	name = strings.TrimPrefix(name, envPrefix)
	return name == "PORT" || strings.HasPrefix(name, "PORT_") || name == "SERVICE_HOST" || name == "SERVICE_PORT" ||
		strings.HasPrefix(name, "SERVICE_PORT_")
}

// variables returns the WASILO_ variables, and refuses one that means nothing. One without a value counts as not set:
// compose files pass such.
func variables(env []string, table []setting) (map[string]string, error) {
	known := slices.Clone(otherVariables)
	for i := range table {
		known = append(known, table[i].variable())
	}
	vars := make(map[string]string)
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || value == "" {
			continue
		}
		if !slices.Contains(known, name) {
			if ofKubernetes(name) {
				continue
			}
			return nil, usagef("unknown variable %s%s", name, didYouMean(name, known))
		}
		vars[name] = value
	}
	return vars, nil
}

// defaultSettings are those that the verbs share.
func defaultSettings() settings {
	c := settings{logLevel: slog.LevelInfo, logFormat: "text"}
	c.host.HTTP = defaultHTTP
	c.host.Net.Link = defaultLink
	c.host.Net.Gossip = defaultGossip
	c.host.ActorsDir = "actors"
	c.host.Watch = true
	c.host.Version = buildVersion()
	return c
}

// checkActorsDir says early and clearly that there is nothing to serve.
func checkActorsDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("there is no directory of actors %q: make it and put .wasm files into it, or name another", dir)
	case err != nil:
		return fmt.Errorf("the directory of actors: %w", err)
	case !info.IsDir():
		return usagef("the directory of actors %q is a file: name the directory it is in", dir)
	}
	return nil
}
