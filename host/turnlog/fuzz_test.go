package turnlog_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/host/turnlog"
)

// FuzzRead: every line that has an end is a record or named as the one that is none, and the records written anew are read the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"at":1,"node":"n1","what":"opened"}
{"at":2,"node":"n1","what":"enabled","actor":"a/b","gen":1,"index":2,"activation":1}
{"at":3,"node":"n1","what":"answ`))
	f.Add([]byte("{\"what\":\"opened\"}{\"what\":\"opened\"}\n")) // two in one line
	f.Add([]byte("{\"what\":\"opened\"} 1\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		all, err := turnlog.Read(bytes.NewReader(log))
		if lines := bytes.Count(log, []byte("\n")); err == nil && len(all) != lines || err != nil && len(all) >= lines {
			t.Fatalf("%d records of %d lines, %v", len(all), lines, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Fatal(err)
		}
		var anew []byte
		for _, r := range all {
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			anew = append(append(anew, line...), '\n')
		}
		if same, err := turnlog.Read(bytes.NewReader(anew)); err != nil || !slices.Equal(same, all) {
			t.Fatalf("%+v became %+v, %v", all, same, err)
		}
	})
}
