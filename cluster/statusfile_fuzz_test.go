package cluster

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzStatus: a file is refused, or is a status of one of the readinesses there are, which written anew is the same.
func FuzzStatus(f *testing.F) {
	for _, st := range []Status{{Readiness: ReadinessReady}, {Readiness: ReadinessDisabled, Reason: "why"}, {Readiness: ReadinessError, Kind: "k", Reason: "\x1b é"}} {
		f.Add(must(json.Marshal(statusRecord{statusFormat, st.Readiness, string(st.Kind), st.Reason})))
	}
	f.Add([]byte(`{"FORMAT":"wasilo cluster status 1","readiness":"ready","readiness":"disabled"}`))
	f.Add([]byte(`{"format":"wasilo cluster status 1","readiness":"ready"}{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := parseStatus(text)
		if err != nil {
			if st != (Status{}) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("%+v, %q", st, err)
			}
			return
		}
		if st == (Status{}) || len(st.Reason)+len(st.Kind) > maxStatusFile*3 { // a byte that is no UTF-8 reads as three
			t.Fatalf("%+v", st)
		}
		again, err := json.Marshal(statusRecord{statusFormat, st.Readiness, string(st.Kind), st.Reason})
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > maxStatusFile {
			return
		}
		if same, err := parseStatus(again); err != nil || same != st {
			t.Fatalf("%+v became %+v, %v", st, same, err)
		}
	})
}
