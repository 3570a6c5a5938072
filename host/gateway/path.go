package gateway

import (
	"net/url"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

const actorsPath = "/v1/actors"

// actorPath is the address of one call, its segments unescaped and not yet checked.
type actorPath struct {
	kind, id, method string
}

// rawPath is the path as the client wrote it. URL.EscapedPath alone would not do: for a path that mixes escapes with
// raw non-ASCII it escapes the decoded form again, and "%2F" would have become a separator.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// splitActorPath reads what follows "/v1/actors/": three segments, each unescaped by itself. It does not judge them.
func splitActorPath(rest string) (actorPath, error) {
	kind, tail, ok1 := strings.Cut(rest, "/")
	id, method, ok2 := strings.Cut(tail, "/")
	if !ok1 || !ok2 || method == "" || strings.IndexByte(method, '/') >= 0 {
		return actorPath{}, &statusError{status: 404, err: abi.NewError(abi.ErrInvalidArgument,
			"a call is POST /v1/actors/{kind}/{id}/{method}; write %2F for a slash in an identity")}
	}
	var p actorPath
	for _, part := range []struct {
		to   *string
		raw  string
		what string
	}{{&p.kind, kind, "kind"}, {&p.id, id, "identity"}, {&p.method, method, "method"}} {
		if strings.IndexByte(part.raw, '%') < 0 {
			*part.to = part.raw
			continue
		}
		s, err := url.PathUnescape(part.raw)
		if err != nil {
			return actorPath{}, abi.NewError(abi.ErrInvalidArgument, "the "+part.what+" in the path: "+err.Error())
		}
		*part.to = s
	}
	return p, nil
}

// target checks the parts of p.
func (p actorPath) target() (abi.Identity, error) {
	id, err := abi.NewIdentity(p.kind, p.id)
	if err != nil {
		return abi.Identity{}, err
	}
	if !abi.ValidMethod(p.method) {
		return abi.Identity{}, abi.NewError(abi.ErrInvalidArgument,
			"a method name is 1 to 127 of A-Z, a-z, 0-9, '_', '.' and '-'")
	}
	return id, nil
}

// CallPath is the path of a call, escaped so that no client or proxy that follows the rules changes it: dot segments
// and slashes of an identity are escaped too.
func CallPath(target abi.Identity, method string) string {
	return actorsPath + "/" + target.Kind() + "/" + escapeSegment(target.ID()) + "/" + escapeSegment(method)
}

func escapeSegment(s string) string {
	switch s {
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return url.PathEscape(s)
}
