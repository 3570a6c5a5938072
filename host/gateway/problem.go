package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
)

// problemType is the prefix of a problem's type; the code follows.
const problemType = "urn:wasilo:error:"

// Problem is an error as clients get it: RFC 9457, with the code of the table in package abi.
type Problem struct {
	Type      string          `json:"type"`
	Title     string          `json:"title"`
	Status    int             `json:"status"`
	Detail    string          `json:"detail,omitempty"`
	Instance  string          `json:"instance,omitempty"` // path of the request
	Code      string          `json:"code"`
	Retryable bool            `json:"retryable"`
	ActorCode string          `json:"actor_code,omitempty"` // with code actor_error: the actor's own
	Details   json.RawMessage `json:"details,omitempty"`    // whatever the actor added
	Checks    []Check         `json:"checks,omitempty"`     // /readyz?verbose
	Files     []FileInfo      `json:"files,omitempty"`      // /readyz?verbose: those that failed or are being loaded
}

// NewProblem describes any error, and never a nil one.
func NewProblem(err error) *Problem {
	e := abi.AsError(err)
	info := e.Code.Info()
	p := &Problem{
		Type: problemType + info.Name, Title: info.Title, Status: info.Status, Detail: e.Message,
		Code: info.Name, Retryable: info.Retryable, ActorCode: e.App,
	}
	if len(e.Details) > 0 {
		// Details are the actor's own business: such as are no CBOR are left out rather than hide the error.
		if js, err := cbor.ToJSON(e.Details, nil); err == nil {
			p.Details = js
		}
	}
	var s *statusError
	if errors.As(err, &s) {
		p.Status = s.status
		if t := http.StatusText(s.status); t != "" {
			p.Title = t
		}
		p.Checks, p.Files = s.checks, s.files
	}
	return p
}

// AsError turns a problem back into the error that it describes.
func (p *Problem) AsError() *abi.Error {
	code, ok := abi.CodeByName(p.Code)
	if !ok || code == abi.ErrNone {
		code = abi.ErrInternal
	}
	e := &abi.Error{Code: code, App: p.ActorCode, Message: p.Detail}
	if e.Message == "" {
		e.Message = p.Title
	}
	if len(p.Details) > 0 {
		if b, err := cbor.FromJSON(p.Details, nil); err == nil {
			e.Details = b
		}
	}
	return e
}

// statusError is an error of the HTTP side, whose status is not the one of its code.
type statusError struct {
	status int
	err    *abi.Error
	allow  string // with 405
	checks []Check
	files  []FileInfo
}

func (e *statusError) Error() string      { return e.err.Message }
func (e *statusError) WireCode() abi.Code { return e.err.Code }

// retryAfter is what a retryable problem asks a client to wait. Every such state passes within moments or lasts; a
// second is the smallest that the header can say.
const retryAfter = 1

// writeProblem answers err and returns the status.
func (g *Gateway) writeProblem(w http.ResponseWriter, r *http.Request, err error) int {
	p := NewProblem(err)
	if path := rawPath(r.URL); len(path) <= 1024 {
		p.Instance = path
	}
	if p.Code == abi.ErrInternal.String() {
		g.log.Warn("a request failed inside the node", "path", p.Instance, "err", err)
	}
	h := w.Header()
	if p.Retryable {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if p.Code == abi.ErrShuttingDown.String() {
		// The client goes elsewhere, and the connection does not stay to be closed under a later request.
		h.Set("Connection", "close")
	}
	var s *statusError
	if errors.As(err, &s) && s.allow != "" {
		h.Set("Allow", s.allow)
	}
	body, merr := json.Marshal(p)
	if merr != nil { // only through details that are no JSON after all
		p.Details = nil
		body, _ = json.Marshal(p)
	}
	writeBody(w, p.Status, problemHeader, append(body, '\n'))
	return p.Status
}
