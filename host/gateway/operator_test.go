package gateway

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// fakeOperator notes what it was asked, and answers the same each time.
type fakeOperator struct {
	asked []string
	err   error
}

func (o *fakeOperator) note(parts ...string) { o.asked = append(o.asked, strings.Join(parts, " ")) }

func text(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func (o *fakeOperator) Voters(context.Context) (VoterList, error) {
	o.note("voters")
	return VoterList{Leader: "n1", Term: 3, Generation: 1, Index: 9}, o.err
}

func (o *fakeOperator) AddVoter(_ context.Context, node string, even bool) (VoterChange, error) {
	o.note("add", node, text(even))
	return VoterChange{Voter: "v", Count: 3}, o.err
}

func (o *fakeOperator) RemoveVoter(_ context.Context, which string, even bool) (VoterChange, error) {
	o.note("rm", which, text(even))
	return VoterChange{Voter: "v", Count: 2}, o.err
}

func (o *fakeOperator) Drain(undo bool) (DrainInfo, error) {
	o.note("drain", text(undo))
	return DrainInfo{Draining: !undo}, o.err
}

func (o *fakeOperator) Drained() DrainInfo { return DrainInfo{Done: true} }

func (o *fakeOperator) Block(_ context.Context, node string, undo bool) (BlockInfo, error) {
	o.note("block", node, text(undo))
	return BlockInfo{Node: node, Blocked: !undo}, o.err
}

func TestOperators(t *testing.T) {
	for _, c := range []struct{ method, path, asked, body string }{
		{"GET", "/v1/voters", "voters", `{"leader":"n1","term":3,"generation":1,"index":9,"voters":[]}`},
		{"PUT", "/v1/voters/n4", "add n4 no", `{"voter":"v","count":3}`},
		{"PUT", "/v1/voters/n4?even=true", "add n4 yes", `{"voter":"v","count":3}`},
		{"DELETE", VoterPath("n2#00000000000000ff") + "?even=true", "rm n2#00000000000000ff yes", `{"voter":"v","count":2}`},
		{"DELETE", VoterPath("a/b"), "rm a/b no", `{"voter":"v","count":2}`},
		{"GET", "/v1/drain", "", `{"draining":false,"done":true,"partitions":0,"moving":0,"actors":0}`},
		{"PUT", "/v1/drain", "drain no", `{"draining":true,"done":false,"partitions":0,"moving":0,"actors":0}`},
		{"DELETE", "/v1/drain", "drain yes", `{"draining":false,"done":false,"partitions":0,"moving":0,"actors":0}`},
		{"PUT", BlockPath("n2"), "block n2 no", `{"node":"n2","blocked":true,"known":false}`},
		{"DELETE", "/v1/members/n%32/block", "block n2 yes", `{"node":"n2","blocked":false,"known":false}`},
	} {
		operator := new(fakeOperator)
		s := serve(t, &fakeNode{}, func(cfg *Config) { cfg.Operator = operator })
		a := exchange(t, c.method, s.URL+c.path, nil)
		if a.status != 200 || strings.TrimSpace(a.body) != c.body || strings.Join(operator.asked, "; ") != c.asked {
			t.Errorf("%s %s: %d %s, asked %q", c.method, c.path, a.status, a.body, operator.asked)
		}
	}
}

// What is wrong with a request changes nothing.
func TestOperatorsAreAskedRightly(t *testing.T) {
	operator := new(fakeOperator)
	s := serve(t, &fakeNode{}, func(cfg *Config) { cfg.Operator = operator })
	for _, c := range []struct {
		method, path, body, allow string
		header                    []string
		status                    int
		code                      abi.Code
	}{
		{method: "POST", path: "/v1/voters", status: 405, code: abi.ErrInvalidArgument, allow: "GET, HEAD"},
		{method: "GET", path: "/v1/voters/n1", status: 405, code: abi.ErrInvalidArgument, allow: "PUT, DELETE"},
		{method: "POST", path: "/v1/drain", status: 405, code: abi.ErrInvalidArgument, allow: "GET, HEAD, PUT, DELETE"},
		{method: "GET", path: "/v1/members/n1/block", status: 405, code: abi.ErrInvalidArgument, allow: "PUT, DELETE"},
		{method: "PUT", path: "/v1/voters/n1?even=perhaps", status: 400, code: abi.ErrInvalidArgument},
		{method: "PUT", path: "/v1/voters/n1?even=null", status: 400, code: abi.ErrInvalidArgument},
		{method: "PUT", path: "/v1/voters/n1", body: `{"even":true}`, status: 400, code: abi.ErrInvalidArgument},
		{method: "PUT", path: "/v1/voters/n1/n2", status: 404, code: abi.ErrUnsupported},
		{method: "PUT", path: "/v1/members//block", status: 404, code: abi.ErrUnsupported},
		{method: "PUT", path: "/v1/members/a/b/block", status: 404, code: abi.ErrUnsupported},
		{method: "PUT", path: "/v1/drain", header: []string{"Origin", "https://example.com"}, status: 403, code: abi.ErrDenied},
		{method: "DELETE", path: "/v1/voters/n1", header: []string{"Host", "example.com"}, status: 403, code: abi.ErrDenied},
	} {
		a := exchange(t, c.method, s.URL+c.path, []byte(c.body), c.header...)
		if p := a.problem(t); a.status != c.status || p.Code != c.code.String() || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %s, Allow %q", c.method, c.path, a.status, a.body, a.header.Get("Allow"))
		}
	}
	if len(operator.asked) > 0 {
		t.Errorf("asked %q", operator.asked)
	}
	operator.err = abi.NewError(abi.ErrNoQuorum, "too few")
	a := exchange(t, "PUT", s.URL+"/v1/voters/n1", nil)
	if p := a.problem(t); a.status != 503 || p.Code != "no_quorum" || !p.Retryable || p.Detail != "too few" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// slowOperator works on a change for as long as it may.
type slowOperator struct{ fakeOperator }

func (*slowOperator) AddVoter(ctx context.Context, _ string, _ bool) (VoterChange, error) {
	<-ctx.Done()
	return VoterChange{}, abi.NewError(abi.ErrTimeout, "too slow")
}

// What operators ask for is worked on for the time of a call, and not for longer than a client waits.
func TestOperatorsWaitNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for given, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: OperatorTime} {
			g := New(Config{Node: &fakeNode{}, Operator: &slowOperator{}, DefaultTimeout: given})
			r := httptest.NewRequestWithContext(t.Context(), "PUT", "http://localhost/v1/voters/n4", nil)
			w, began := httptest.NewRecorder(), time.Now()
			hang := time.AfterFunc(2*time.Hour, func() { panic("it never ends") })
			g.ServeHTTP(w, r)
			hang.Stop()
			if took := time.Since(began); took != want || w.Code != 504 {
				t.Errorf("%v: %d after %v", given, w.Code, took)
			}
		}
	})
}

// Without an operator there are no such pages, and the index does not name them.
func TestNoOperator(t *testing.T) {
	s := serve(t, &fakeNode{}, nil)
	for _, path := range []string{"/v1/voters", "/v1/drain", "/v1/voters/n1", "/v1/members/n1/block"} {
		if a := exchange(t, "PUT", s.URL+path, nil); a.status != 404 || a.problem(t).Code != "unsupported" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	pages := func(url string) (all []string) {
		var index struct{ Pages []string }
		a := exchange(t, "GET", url+"/", nil, "Accept", TypeJSON)
		if err := json.Unmarshal([]byte(a.body), &index); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		return index.Pages
	}
	with := serve(t, &fakeNode{}, func(cfg *Config) { cfg.Operator = new(fakeOperator) })
	if less, more := pages(s.URL), pages(with.URL); len(more) != len(less)+4 || strings.Contains(strings.Join(less, " "), "voters") {
		t.Errorf("%q and %q", less, more)
	}
}
