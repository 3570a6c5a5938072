package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// scope are the packages that get delays wherever they are imported; what is below a "…" in it counts too. Not in it is what has neither
// goroutines nor locks: the cluster's pure core, the forge, the ABI, the guests.
var (
	scope    = []string{"cluster", "serfwatch", "host/..."}
	unscoped = []string{"host/forge"}
)

// delayDir is where the inserted calls go, below the module.
const delayDir = "tools/jitter/delay"

// project is the module.
type project struct {
	root   string
	module string
	named  []pkg    // with tests, in the order of the command line
	files  []string // that get delays, sorted
}

// pkg is a package whose tests are run.
type pkg struct {
	path string // import path
	dir  string
	rel  string // below the module, with slashes
}

// name is what one types for it at the root of the module.
func (k pkg) name() string {
	if k.rel == "." {
		return "."
	}
	return "./" + k.rel
}

// listed is a package as go list shows it. Files that a build constraint excludes are not in it, nor those with cgo.
type listed struct {
	Dir, ImportPath                    string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Module                             struct{ Path string }
}

// openProject finds out what there is to run in the module that dir is in, and what of it gets delays.
func openProject(ctx context.Context, dir string, s *settings) (*project, error) {
	root, err := moduleRoot(dir)
	if err != nil {
		return nil, err
	}
	p := &project{root: root}
	patterns := s.args
	if len(patterns) == 0 {
		dir, patterns = root, concurrent
	}
	named, err := goList(ctx, dir, s.race, patterns...)
	if err != nil {
		return nil, err
	}
	all, err := goList(ctx, root, s.race, "-e", "./...")
	if err != nil {
		return nil, err
	}
	for _, l := range named {
		rel, err := p.below(l.Dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.ImportPath, err)
		}
		if p.module = l.Module.Path; len(l.TestGoFiles)+len(l.XTestGoFiles) > 0 {
			p.named = append(p.named, pkg{l.ImportPath, l.Dir, rel})
		}
	}
	if len(p.named) == 0 {
		return nil, fmt.Errorf("no tests in %s", strings.Join(patterns, " "))
	}
	isNamed := func(l listed) bool { return slices.ContainsFunc(named, func(n listed) bool { return n.Dir == l.Dir }) }
	for _, l := range all {
		rel, err := p.below(l.Dir)
		if err != nil || rel == delayDir || !isNamed(l) && !inScope(rel) {
			continue
		}
		for _, f := range slices.Concat(l.GoFiles, l.TestGoFiles, l.XTestGoFiles) {
			p.files = append(p.files, filepath.Join(l.Dir, f))
		}
	}
	slices.Sort(p.files)
	return p, nil
}

// inScope reports whether a package gets delays without being named.
func inScope(rel string) bool {
	fits := func(pattern string) bool {
		base, deep := strings.CutSuffix(pattern, "/...")
		return rel == base || deep && strings.HasPrefix(rel, base+"/")
	}
	return slices.ContainsFunc(scope, fits) && !slices.ContainsFunc(unscoped, fits)
}

// below is a directory's path below the module.
func (p *project) below(dir string) (string, error) {
	rel, err := filepath.Rel(p.root, dir)
	if err == nil && !filepath.IsLocal(rel) {
		err = errors.New("it is not of this module")
	}
	return filepath.ToSlash(rel), err
}

// moduleRoot is the directory of the module that dir is in, as the go command names it.
func moduleRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the module")
		}
		dir = up
	}
}

// goList asks the go command for packages.
func goList(ctx context.Context, dir string, race bool, args ...string) (all []listed, err error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-json=Dir,ImportPath,Module,GoFiles,TestGoFiles,XTestGoFiles",
		fmt.Sprintf("-race=%t", race)}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, l)
	}
}

// overlay writes the sources with delays and what tells the compiler to read them, and returns its path. The names of the sources do
// not end as Go's do: below the module, the go command and gofmt would find them.
func (p *project) overlay(dir string) (string, error) {
	sources := filepath.Join(dir, "src") // what an earlier run left there does no harm: the overlay names what is read
	replace := make(map[string]string)
	for _, file := range p.files {
		src, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		rel, err := p.below(file)
		if err != nil {
			return "", err
		}
		text, err := rewrite(rel, src, p.module+"/"+delayDir)
		if err != nil {
			return "", err
		}
		if text == nil {
			continue
		}
		to := filepath.Join(sources, filepath.FromSlash(rel)+".txt")
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return "", err
		}
		replace[file] = to
	}
	list, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, list, 0o644)
}

// build builds the tests of a package. The go command leaves a binary alone that is of the same sources.
func (p *project) build(ctx context.Context, s *settings, k pkg, overlay string) (string, error) {
	flat := flat(k)
	if s.race {
		flat += ".race"
	}
	binary := filepath.Join(s.dir, "bin", flat+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", fmt.Sprintf("-race=%t", s.race), "-overlay", overlay,
		"-ldflags", fmt.Sprintf("-X '%s/%s.settings=%s'", p.module, delayDir, p.settingsFile(s)), "-o", binary, k.path)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "PWD="+p.root)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests of %s: %w\n%s", k.rel, err, bytes.TrimSpace(out))
	}
	return binary, nil
}

func (p *project) settingsFile(s *settings) string { return filepath.Join(s.dir, "settings") }

// flat is a package's name as that of a file.
func flat(k pkg) string {
	if k.rel == "." {
		return "root"
	}
	return strings.ReplaceAll(k.rel, "/", "_")
}
