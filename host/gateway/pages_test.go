package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/wasilo/wasilo/abi"
)

func TestOnlyThisMachineMayAsk(t *testing.T) {
	node := &fakeNode{ready: Readiness{Ready: true}}
	s := serve(t, node, nil)
	call := s.URL + "/v1/actors/echo/a/m"
	for _, c := range []struct {
		method, url string
		header      []string
		status      int
	}{
		{"GET", s.URL + "/livez", []string{"Host", "evil.example"}, 403},
		{"GET", s.URL + "/livez", []string{"Host", "evil.example:7700"}, 403},
		{"GET", s.URL + "/livez", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"GET", s.URL + "/livez", []string{"Host", "localhost.evil.example"}, 403},
		{"GET", s.URL + "/livez", []string{"Host", "10.0.0.1:7700"}, 403},
		{"GET", s.URL + "/livez", []string{"Host", "localhost"}, 200},
		{"GET", s.URL + "/livez", []string{"Host", "LocalHost:7700"}, 200},
		{"GET", s.URL + "/livez", []string{"Host", "[::1]:7700"}, 200},
		{"GET", s.URL + "/livez", []string{"Host", "127.8.9.10"}, 200},
		{"POST", call, []string{"Origin", "https://evil.example"}, 403},
		{"POST", call, []string{"Origin", "null"}, 403},
		{"POST", call, []string{"Origin", "http://localhost:3000", "Origin", "https://evil.example"}, 403},
		{"POST", call, []string{"Origin", "http://localhost:3000"}, 200},
		{"POST", call, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", call, []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"OPTIONS", call, []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, 403},
	} {
		a := exchange(t, c.method, c.url, nil, c.header...)
		if a.status != c.status || c.status == 403 && a.problem(t).Code != "denied" {
			t.Errorf("%s %s %q: %d %s", c.method, c.url, c.header, a.status, a.body)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: a CORS header", c.header)
		}
	}
	if a := exchange(t, "POST", call, nil, "Host", "evil.example"); a.status != 403 || len(node.sent) != 2 {
		t.Errorf("%d; %d messages reached the node", a.status, len(node.sent))
	}
}

func TestLoopbackHost(t *testing.T) {
	for _, bad := range []string{"", ":", ":80", "localhost:", "localhost:x", "localhost:99999", "[::1", "::1]", "::2",
		"0.0.0.0", "[::]", "0", "localhost.", "[localhost]"} {
		if loopbackHost(bad) {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestReadiness(t *testing.T) {
	node := &fakeNode{files: []FileInfo{{Path: "ok.wasm", State: FileLoaded}, {Path: "bad.wasm", State: FileFailed, Error: "no wasm"}}}
	s := serve(t, node, nil)
	if a := exchange(t, "GET", s.URL+"/livez", nil); a.status != 200 || a.body != "{\"live\":true}\n" {
		t.Errorf("livez: %d %s", a.status, a.body)
	}

	a := exchange(t, "GET", s.URL+"/readyz", nil)
	if p := a.problem(t); p.Status != 503 || p.Code != "not_ready" || !p.Retryable || a.header.Get("Retry-After") != "1" || p.Checks != nil {
		t.Errorf("%s", a.body)
	}
	node.ready = Readiness{Checks: []Check{{Name: "http", OK: true}, {Name: "modules", Detail: "2 of 3 compiled"}, {Name: "ring"}}}
	if p := exchange(t, "GET", s.URL+"/readyz", nil).problem(t); p.Detail != "modules: 2 of 3 compiled; ring" {
		t.Errorf("%+v", p)
	}
	if p := exchange(t, "GET", s.URL+"/readyz?verbose", nil).problem(t); len(p.Checks) != 3 || len(p.Files) != 1 || p.Files[0].Path != "bad.wasm" {
		t.Errorf("%+v", p)
	}

	node.ready = Readiness{Ready: true, Checks: []Check{{Name: "http", OK: true}}}
	if a := exchange(t, "GET", s.URL+"/readyz", nil); a.status != 200 || a.body != "{\"ready\":true}\n" {
		t.Errorf("%d %s", a.status, a.body)
	}
	var h Health
	a = exchange(t, "GET", s.URL+"/readyz?verbose", nil)
	if err := json.Unmarshal([]byte(a.body), &h); err != nil || !h.Ready || len(h.Checks) != 1 || len(h.Files) != 1 {
		t.Errorf("%v: %s", err, a.body)
	}
	if a := exchange(t, "HEAD", s.URL+"/readyz", nil); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
}

func TestActorsArePaged(t *testing.T) {
	all := []string{"a", "b/c", "d", "z", "é"}
	node := &fakeNode{actors: func(q ActorQuery) (p ActorPage) {
		for _, id := range all {
			if q.Kind != "" && q.Kind != "chat" || q.State == ActorSleeping || "chat/"+id <= q.After.String() {
				continue
			}
			if len(p.Actors) == q.Limit {
				p.More = true
				break
			}
			p.Actors = append(p.Actors, ActorInfo{Kind: "chat", ID: id, State: ActorIdle})
		}
		return p
	}}
	s := serve(t, node, nil)
	var got []string
	next := ""
	for pages := 1; ; pages++ {
		a := exchange(t, "GET", s.URL+"/v1/actors?kind=chat&limit=2&after="+next, nil)
		var list ActorList
		if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != 200 {
			t.Fatalf("%v: %d %s", err, a.status, a.body)
		}
		for _, info := range list.Actors {
			got = append(got, info.ID)
		}
		if next = list.Next; next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("%q", got)
	}
	if a := exchange(t, "GET", s.URL+"/v1/actors?kind=other", nil); strings.TrimSpace(a.body) != `{"actors":[]}` {
		t.Errorf("none: %s", a.body)
	}
	if a := exchange(t, "GET", s.URL+"/v1/actors?state=sleeping", nil); strings.TrimSpace(a.body) != `{"actors":[]}` {
		t.Errorf("asleep: %s", a.body)
	}
	for query, says := range map[string]string{"limit=0": "1 to 1000", "limit=1001": "1 to 1000", "limit=x": "1 to 1000",
		"after=%21": "cursor", "after=YWJj": "cursor", "kind=UPPER": "kind", "state=dead": "sleeping"} {
		if p := exchange(t, "GET", s.URL+"/v1/actors?"+query, nil).problem(t); p.Status != 400 || !strings.Contains(p.Detail, says) {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

func counterKind() KindInfo {
	by := abi.Field{Name: "by", Schema: &abi.Schema{Type: abi.TypeInt}}
	note := abi.Field{Name: "note", Schema: &abi.Schema{Type: abi.TypeText}, Optional: true}
	get := abi.Method{Name: "get", ReadOnly: true}
	return DescribeKind(&abi.KindDescription{Name: "counter", Events: []abi.EventTag{abi.EventCall},
		Methods: []abi.Method{*record("add", by, note), get}}, "counter.wasm", "c0ffee")
}

func TestKindsAndIndex(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, func(c *Config) { c.Version = "v9" })
	if a := exchange(t, "GET", s.URL+"/v1/kinds", nil); strings.TrimSpace(a.body) != `{"kinds":[],"files":[]}` {
		t.Errorf("none: %s", a.body)
	}
	if a := exchange(t, "GET", s.URL+"/", nil); !strings.Contains(a.body, "wasilo v9") || !strings.Contains(a.body, ".wasm") {
		t.Errorf("an index without kinds: %s", a.body)
	}
	chat := DescribeKind(&abi.KindDescription{Name: "chat", Methods: []abi.Method{*record("join")}}, "", "")
	node.kinds = []KindInfo{chat, counterKind()}
	node.files = []FileInfo{{Path: "counter.wasm", SHA256: "c0ffee", Kinds: []string{"counter"}, State: FileLoaded}}
	want := `{"kinds":[{"name":"chat","state":{"keep":"none","level":"volatile"},"events":[],"methods":[` +
		`{"name":"join","params":"{}","result":"any","example":"{}"}]},` +
		`{"name":"counter","file":"counter.wasm","version":"c0ffee","state":{"keep":"none","level":"volatile"},` +
		`"events":["call"],"methods":[` +
		`{"name":"add","params":"{by: int, note?: text}","result":"any","example":"{\"by\":1}"},` +
		`{"name":"get","read_only":true,"params":"any","result":"any","example":"{}"}]}],` +
		`"files":[{"path":"counter.wasm","sha256":"c0ffee","kinds":["counter"],"state":"loaded"}]}`
	if a := exchange(t, "GET", s.URL+"/v1/kinds", nil); strings.TrimSpace(a.body) != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
	line := `curl -d '{"by":1}' ` + s.URL + `/v1/actors/counter/alice/add`
	if a := exchange(t, "GET", s.URL+"/", nil, "Accept", "*/*"); !strings.Contains(a.body, line) {
		t.Errorf("the index lacks %s:\n%s", line, a.body)
	}
	a := exchange(t, "GET", s.URL+"/", nil, "Accept", TypeJSON)
	var index struct{ Example string }
	if err := json.Unmarshal([]byte(a.body), &index); err != nil || index.Example != line {
		t.Errorf("%v: %s", err, a.body)
	}
}

func TestMembers(t *testing.T) {
	node := &fakeNode{}
	s := serve(t, node, nil)
	if a := exchange(t, "GET", s.URL+"/v1/members", nil); a.status != 200 || strings.TrimSpace(a.body) != `{"members":[]}` {
		t.Errorf("none: %d %s", a.status, a.body)
	}
	node.members = []MemberInfo{
		{ID: "n1", Self: true, State: MemberAlive, Mode: "member", Boot: "0a", Link: "127.0.0.1:7701", Gossip: "127.0.0.1:7946",
			HTTP: "127.0.0.1:7700", Linked: true, Kinds: []string{"bank", "counter"}},
		{ID: "n2", State: MemberLeaving, Mode: "client", Kinds: []string{}},
		{ID: "n3", State: MemberFailed, Mode: "member", Problem: "it does not answer"},
	}
	want := `{"members":[{"id":"n1","self":true,"state":"alive","mode":"member","boot":"0a","link":"127.0.0.1:7701",` +
		`"gossip":"127.0.0.1:7946","http":"127.0.0.1:7700","linked":true,"kinds":["bank","counter"]},` +
		`{"id":"n2","state":"leaving","mode":"client","linked":false,"kinds":[]},` +
		`{"id":"n3","state":"failed","mode":"member","linked":false,"kinds":null,"problem":"it does not answer"}]}`
	if a := exchange(t, "GET", s.URL+"/v1/members", nil); strings.TrimSpace(a.body) != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
	if a := exchange(t, "GET", s.URL+"/", nil); !strings.Contains(a.body, "GET /v1/members") {
		t.Errorf("the index: %s", a.body)
	}
	if a := exchange(t, "POST", s.URL+"/v1/members", nil); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %s", a.status, a.body)
	}
}

func TestExampleJSON(t *testing.T) {
	text, whole := &abi.Schema{Type: abi.TypeText}, &abi.Schema{Type: abi.TypeUint}
	sub := &abi.Schema{Type: abi.TypeRecord, Fields: []abi.Field{{Name: "n", Schema: &abi.Schema{Type: abi.TypeFloat}}}}
	for want, s := range map[string]*abi.Schema{
		`{}`:     nil,
		`1`:      whole,
		`"text"`: text,
		`true`:   {Type: abi.TypeBool},
		`[1]`:    {Type: abi.TypeList, Elem: whole},
		`[]`:     {Type: abi.TypeList},
		`{"to":"to","sub":{"n":1.5}}`: {Type: abi.TypeRecord, Fields: []abi.Field{
			{Name: "to", Schema: text}, {Name: "x", Optional: true}, {Name: "sub", Schema: sub},
		}},
	} {
		if got := ExampleJSON(s); got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
	// A module's author chooses names, and the operator types what becomes of them.
	for _, name := range []string{"it's", "'; touch owned; '", `"\\`, "a\x00\a\n\u007f\u0085\u202e\ue000\U000e0001é漢𝄞", "\xff$(id)`id`"} {
		got := ExampleJSON(&abi.Schema{Type: abi.TypeRecord, Fields: []abi.Field{{Name: name, Schema: text}}})
		var back map[string]string
		if err := json.Unmarshal([]byte(got), &back); err != nil || back[strings.ToValidUTF8(name, "\ufffd")] == "" || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
	if _, ok := PickExample([]KindInfo{{Name: "silent"}}); ok {
		t.Error("an example of a kind that lists nothing")
	}
}

// A shell runs the call and nothing else, whatever the module calls its fields.
func TestCurlIsOneCommand(t *testing.T) {
	alice, err := abi.ParseIdentity("counter/alice")
	if err != nil {
		t.Fatal(err)
	}
	e := Example{Target: alice, Method: "add", JSON: `{"it's; touch owned":1}`}
	want := `curl -d '{"it'\''s; touch owned":1}' http://127.0.0.1:7700/v1/actors/counter/alice/add`
	if got := e.Curl("http://127.0.0.1:7700"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"n1/ca.crt": "n1/ca.crt", "on n1": "'on n1'", "": "''", "it's": `'it'\''s'`,
		"$HOME": "'$HOME'", "é": "'é'"} {
		if got := ShellWord(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestMetricsPage(t *testing.T) {
	s := serve(t, &fakeNode{}, nil)
	if a := exchange(t, "GET", s.URL+"/metrics", nil); a.status != 404 {
		t.Errorf("without metrics: %d", a.status)
	}
	s = serve(t, &fakeNode{}, func(c *Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up 1") })
	})
	if a := exchange(t, "GET", s.URL+"/metrics", nil); a.status != 200 || a.body != "up 1" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
