package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
)

// readFile applies a wasilo.toml to c. Errors name file and line.
func readFile(c *settings, name string, text []byte, table []setting) error {
	var tree map[string]any
	meta, err := toml.Decode(string(text), &tree)
	if err != nil {
		if at := (toml.ParseError{}); errors.As(err, &at) {
			return usagef("%s:%d: %s", name, at.Position.Line, at.Message)
		}
		return usagef("%s: %w", name, err)
	}
	f := &configFile{c: c, name: name, text: string(text), tree: tree, table: table, kinds: kindSettings()}
	for _, key := range meta.Keys() { // in the order of the file
		if err := f.apply(key); err != nil {
			return usagef("%s:%d: %w", name, line(f.text, key), err)
		}
	}
	return nil
}

type configFile struct {
	c     *settings
	name  string
	text  string
	tree  map[string]any
	table []setting
	kinds []kindSetting
}

// apply sets what stands under key.
func (f *configFile) apply(key toml.Key) error {
	value := any(f.tree)
	for _, part := range key {
		m, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: no list of tables is expected here", key)
		}
		value = m[part]
	}
	if _, isTable := value.(map[string]any); isTable {
		return f.checkTable(key)
	}
	switch {
	case key[0] == "kinds" && len(key) < 3:
		return fmt.Errorf("%s: a table is expected: [kinds.NAME] with %s", key, strings.Join(f.kindKeys(), ", "))
	case key[0] == "kinds" && len(key) == 3:
		return f.applyKind(key, value)
	case len(key) == 1 && slices.Contains(f.tables(), key[0]):
		return fmt.Errorf("%s: a table is expected: [%s] with %s", key, key, strings.Join(f.keysOf(key[0]), ", "))
	}
	path := strings.Join(key, ".")
	i := slices.IndexFunc(f.table, func(s setting) bool { return f.isKey(key, s.key) })
	if i < 0 {
		return fmt.Errorf("unknown key %s%s", key, didYouMean(path, f.keys()))
	}
	s := &f.table[i]
	v, err := text(s, value)
	if err == nil && s.path && v != "" && !filepath.IsAbs(v) {
		v = filepath.Join(filepath.Dir(f.name), v)
	}
	if err == nil {
		err = s.set(f.c, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (f *configFile) applyKind(key toml.Key, value any) error {
	if err := abi.CheckKind(key[1]); err != nil { // of kinds.NAME.key the decoder tells no table
		return fmt.Errorf("%s: %w", key, err)
	}
	i := slices.IndexFunc(f.kinds, func(s kindSetting) bool { return s.key == key[2] })
	if i < 0 {
		return fmt.Errorf("unknown key %s%s", key, didYouMean(key[2], f.kindKeys()))
	}
	if f.c.host.Kinds == nil {
		f.c.host.Kinds = make(map[string]host.KindLimits)
	}
	k := f.c.host.Kinds[key[1]]
	v, err := scalar(value)
	if err == nil {
		err = f.kinds[i].set(&k, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	f.c.host.Kinds[key[1]] = k
	return nil
}

// checkTable refuses a table that nothing can stand in.
func (f *configFile) checkTable(key toml.Key) error {
	switch {
	case len(key) == 1 && slices.Contains(f.tables(), key[0]):
		return nil
	case len(key) == 2 && key[0] == "kinds":
		if err := abi.CheckKind(key[1]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	case slices.ContainsFunc(f.table, func(s setting) bool { return f.isKey(key, s.key) }),
		len(key) == 3 && key[0] == "kinds" && slices.Contains(f.kindKeys(), key[2]):
		return fmt.Errorf("%s: a value is expected, not a table", key)
	case len(key) == 3 && key[0] == "kinds":
		return fmt.Errorf("unknown key %s%s", key, didYouMean(key[2], f.kindKeys()))
	}
	return fmt.Errorf("unknown table %s%s", key, didYouMean(key[0], f.tables()))
}

// isKey reports whether key is the one of the table that is written path there: "limits.turn" in quotes is not.
func (*configFile) isKey(key toml.Key, path string) bool {
	return slices.Equal([]string(key), strings.Split(path, "."))
}

// tables are the names that a table may have.
func (f *configFile) tables() []string {
	tables := []string{"kinds"}
	for _, k := range f.keys() {
		if table, _, ok := strings.Cut(k, "."); ok && !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
	}
	return tables
}

// keysOf are the names that stand in a table.
func (f *configFile) keysOf(table string) (keys []string) {
	for _, k := range f.keys() {
		if key, ok := strings.CutPrefix(k, table+"."); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

func (f *configFile) kindKeys() (keys []string) {
	for _, s := range f.kinds {
		keys = append(keys, s.key)
	}
	return keys
}

func (f *configFile) keys() []string {
	keys := make([]string, 0, len(f.table)+1)
	for i := range f.table {
		keys = append(keys, f.table[i].key)
	}
	return keys
}

// text writes the value of a setting as its parser reads it.
func text(s *setting, v any) (string, error) {
	list, ok := v.([]any)
	if !s.list || !ok {
		return scalar(v)
	}
	parts := make([]string, 0, len(list))
	for _, e := range list {
		part, ok := e.(string)
		if !ok {
			return "", errors.New("a list of texts is expected")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ","), nil
}

// scalar writes a value of the file as the parsers of settings read it.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("a text, a whole number, true or false is expected")
}

// line finds where key stands in text. The decoder knows but tells only in an error, so it decodes into a type that
// fails right there: nested structs with one field each.
func line(text string, key toml.Key) int {
	t := reflect.TypeFor[here]()
	for _, part := range slices.Backward(key) {
		t = reflect.StructOf([]reflect.StructField{{Name: "F", Type: t, Tag: reflect.StructTag(`toml:` + strconv.Quote(part))}})
	}
	_, err := toml.Decode(text, reflect.New(t).Interface())
	if at := (toml.ParseError{}); errors.As(err, &at) {
		return at.Position.Line
	}
	return 0
}

// here refuses to be decoded.
type here struct{}

// UnmarshalTOML implements toml.Unmarshaler.
func (*here) UnmarshalTOML(any) error { return errors.New("here") }
