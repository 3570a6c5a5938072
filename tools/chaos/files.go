package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// write keeps the record and the history of a run.
func (c *config) write(rec *record, ops []verdict.Op) error {
	f, err := os.Create(filepath.Join(c.dir, opsFile))
	if err != nil {
		return err
	}
	err = verdict.WriteLines(f, ops)
	return errors.Join(err, f.Close(), writeJSON(filepath.Join(c.dir, runFile), rec))
}

// read reads what write wrote, and the turn logs beside it.
func read(dir string) (rec *record, ops []verdict.Op, logs [][]turnlog.Record, err error) {
	text, err := os.ReadFile(filepath.Join(dir, runFile))
	if err != nil {
		return nil, nil, nil, err
	}
	rec = &record{}
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", runFile, err)
	}
	f, err := os.Open(filepath.Join(dir, opsFile))
	if err != nil {
		return nil, nil, nil, err
	}
	defer f.Close()
	if ops, err = verdict.ReadLines[verdict.Op](f); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", opsFile, err)
	}
	for _, id := range rec.Nodes {
		log, err := readTurns(filepath.Join(dir, id, "turns.jsonl"))
		if err != nil {
			return nil, nil, nil, fmt.Errorf("the turn log of %s: %w", id, err)
		}
		logs = append(logs, log)
	}
	return rec, ops, logs, nil
}

func readTurns(file string) ([]turnlog.Record, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the node never came so far
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return turnlog.Read(f)
}

func writeJSON(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// tidy removes from a run's directory what nobody reads afterwards.
func (c *config) tidy() error {
	var errs []error
	for _, name := range []string{"wasilo", "actors", "cache", "ca", "home"} {
		errs = append(errs, os.RemoveAll(filepath.Join(c.dir, name)))
	}
	for i := range c.nodes {
		errs = append(errs, os.RemoveAll(filepath.Join(c.dir, name(i), "data")))
	}
	return errors.Join(errs...)
}
