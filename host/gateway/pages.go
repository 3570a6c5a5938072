package gateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// Sizes of a page of actors.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// KindList is the answer to GET /v1/kinds.
type KindList struct {
	Kinds []KindInfo `json:"kinds"`
	Files []FileInfo `json:"files"`
}

// MemberList is the answer to GET /v1/members.
type MemberList struct {
	Members []MemberInfo `json:"members"`
}

// ActorList is the answer to GET /v1/actors. Next, when not empty, is the cursor of the next page.
type ActorList struct {
	Actors []ActorInfo `json:"actors"`
	Next   string      `json:"next,omitempty"`
}

// Health is the answer to GET /readyz; with ?verbose it has the checks, and the module files that failed or are being loaded.
type Health struct {
	Ready  bool       `json:"ready"`
	Checks []Check    `json:"checks,omitempty"`
	Files  []FileInfo `json:"files,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v any) (int, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	writeBody(w, status, jsonHeader, append(body, '\n'))
	return status, nil
}

func (g *Gateway) kinds(w http.ResponseWriter, _ *http.Request) (int, error) {
	list := KindList{Kinds: g.node.Kinds(), Files: g.node.Files()}
	if list.Kinds == nil {
		list.Kinds = []KindInfo{}
	}
	if list.Files == nil {
		list.Files = []FileInfo{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (g *Gateway) members(w http.ResponseWriter, _ *http.Request) (int, error) {
	list := MemberList{Members: g.node.Members()}
	if list.Members == nil {
		list.Members = []MemberInfo{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (g *Gateway) actors(w http.ResponseWriter, r *http.Request) (int, error) {
	args, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, abi.NewError(abi.ErrInvalidArgument, "the query: "+err.Error())
	}
	q := ActorQuery{Kind: args.Get("kind"), Limit: DefaultPage}
	if q.Kind != "" {
		if err := abi.CheckKind(q.Kind); err != nil {
			return 0, err
		}
	}
	switch q.State = args.Get("state"); q.State {
	case "", ActorsActive, ActorSleeping:
	default:
		return 0, abi.NewError(abi.ErrInvalidArgument, "state: "+strconv.QuoteToASCII(cutText(q.State, 20))+" is neither "+ActorsActive+
			" nor "+ActorSleeping)
	}
	if s := args.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > MaxPage {
			return 0, abi.NewError(abi.ErrInvalidArgument, "limit: "+strconv.QuoteToASCII(cutText(s, 20))+
				" is not 1 to "+strconv.Itoa(MaxPage))
		}
		q.Limit = n
	}
	if s := args.Get("after"); s != "" {
		after, err := parseCursor(s)
		if err != nil {
			return 0, err
		}
		q.After = after
	}
	page := g.node.Actors(q)
	list := ActorList{Actors: page.Actors}
	if list.Actors == nil {
		list.Actors = []ActorInfo{}
	}
	if n := len(page.Actors); page.More && n > 0 {
		list.Next = cursor(page.Actors[n-1])
	}
	return writeJSON(w, http.StatusOK, list)
}

// A cursor is the key of the last actor of a page. It is opaque to clients, so that it may become something else.
func cursor(last ActorInfo) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.Kind + "/" + last.ID))
}

func parseCursor(s string) (abi.Identity, error) {
	key, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		var id abi.Identity
		if id, err = abi.ParseIdentity(string(key)); err == nil {
			return id, nil
		}
	}
	return abi.Identity{}, abi.NewError(abi.ErrInvalidArgument,
		"after: not a cursor of this node; pass the next of the page before")
}

func (g *Gateway) livez(w http.ResponseWriter, _ *http.Request) (int, error) {
	writeBody(w, http.StatusOK, jsonHeader, []byte("{\"live\":true}\n"))
	return http.StatusOK, nil
}

func (g *Gateway) readyz(w http.ResponseWriter, r *http.Request) (int, error) {
	ready := g.node.Ready()
	var health Health
	health.Ready = ready.Ready
	if r.URL.Query().Has("verbose") {
		health.Checks = ready.Checks
		for _, f := range g.node.Files() {
			if f.State != FileLoaded || !f.LoadingSince.IsZero() {
				health.Files = append(health.Files, f)
			}
		}
	}
	if ready.Ready {
		return writeJSON(w, http.StatusOK, health)
	}
	var why []string
	for _, c := range ready.Checks {
		if c.OK {
			continue
		}
		if c.Detail != "" {
			why = append(why, c.Name+": "+c.Detail)
		} else {
			why = append(why, c.Name)
		}
	}
	if len(why) == 0 {
		why = []string{"the node is starting"}
	}
	return 0, &statusError{status: http.StatusServiceUnavailable, checks: health.Checks, files: health.Files,
		err: abi.NewError(abi.ErrNotReady, strings.Join(why, "; "))}
}

func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request) (int, error) {
	if g.metrics == nil {
		return 0, noPage()
	}
	g.metrics.ServeHTTP(w, r)
	return http.StatusOK, nil
}

// index says what one can do here: text for people, JSON for those who ask for it.
func (g *Gateway) index(w http.ResponseWriter, r *http.Request) (int, error) {
	kinds := g.node.Kinds()
	example, hasExample := PickExample(kinds)
	if accept := r.Header["Accept"]; acceptQuality(accept, "json") > 0 && !strings.Contains(strings.Join(accept, ","), "*/*") {
		v := struct {
			Name    string   `json:"name"`
			Version string   `json:"version,omitempty"`
			Pages   []string `json:"pages"`
			Example string   `json:"example,omitempty"`
		}{Name: "wasilo", Version: g.version, Pages: g.pages()}
		if hasExample {
			v.Example = example.Curl("http://" + r.Host)
		}
		return writeJSON(w, http.StatusOK, v)
	}
	var b strings.Builder
	b.WriteString("wasilo")
	if g.version != "" {
		b.WriteString(" " + g.version)
	}
	b.WriteString("\n\n")
	for _, p := range g.pages() {
		b.WriteString("  " + p + "\n")
	}
	if len(kinds) == 0 {
		b.WriteString("\nNo kind is loaded yet: put a .wasm file into the directory of actors.\n")
	}
	if hasExample {
		b.WriteString("\nTry:\n\n  " + example.Curl("http://"+r.Host) + "\n")
	}
	writeBody(w, http.StatusOK, textHeader, []byte(b.String()))
	return http.StatusOK, nil
}

func (g *Gateway) pages() []string {
	all := []string{
		"POST /v1/actors/{kind}/{id}/{method}",
		"GET /v1/actors?kind=&state=&after=&limit=",
		"GET /v1/kinds",
		"GET /v1/members",
	}
	if g.operator != nil {
		all = append(all, "PUT, DELETE /v1/members/{id}/block", "GET /v1/voters", "PUT, DELETE /v1/voters/{id}?even=", "GET, PUT, DELETE /v1/drain")
	}
	return append(all, "GET /livez", "GET /readyz?verbose", "GET /metrics")
}
