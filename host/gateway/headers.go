package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wasilo/wasilo/abi"
)

// Names of the headers of a call.
const (
	HeaderTimeout     = "Wasilo-Timeout"
	HeaderIf          = "Wasilo-If"
	HeaderOneWay      = "Wasilo-One-Way"
	HeaderIdempotency = "Idempotency-Key"
)

// Media types of bodies.
const (
	TypeJSON = "application/json"
	// typeForm is what `curl -d` says of whatever it sends. Nobody sends forms here, so it is read as JSON; a page of
	// another origin that posts one is refused by its Origin.
	typeForm    = "application/x-www-form-urlencoded"
	TypeCBOR    = "application/cbor"
	TypeProblem = "application/problem+json"
)

// format is the form of a body.
type format uint8

const (
	formatJSON format = iota
	formatCBOR
)

func badHeader(name, value, accepted string) error {
	return abi.NewError(abi.ErrInvalidArgument, "header "+name+": "+strconv.QuoteToASCII(cutText(value, 80))+
		" is not "+accepted)
}

// single returns the only value of a header, "" without one.
func single(h http.Header, name string) (string, error) {
	switch vs := h[name]; len(vs) {
	case 0:
		return "", nil
	case 1:
		return vs[0], nil
	}
	return "", abi.NewError(abi.ErrInvalidArgument, "header "+name+" stands more than once")
}

// options are what the headers of a call say beside body and trace.
type options struct {
	timeout     time.Duration // 0: not given
	flags       abi.Flags
	idempotency string
}

func parseOptions(h http.Header) (o options, err error) {
	v, err := single(h, HeaderTimeout)
	if err != nil {
		return o, err
	}
	if v != "" {
		if o.timeout, err = parseTimeout(v); err != nil {
			return o, err
		}
	}
	if v, err = single(h, HeaderIf); err != nil {
		return o, err
	}
	switch v {
	case "":
	case "active":
		o.flags |= abi.OnlyIfActive
	case "exists":
		o.flags |= abi.MustExist
	default:
		return o, badHeader(HeaderIf, v, `"active" or "exists"`)
	}
	if v, err = single(h, HeaderOneWay); err != nil {
		return o, err
	}
	switch v {
	case "", "false", "0":
	case "true", "1":
		o.flags |= abi.OneWay
	default:
		return o, badHeader(HeaderOneWay, v, `"true" or "false"`)
	}
	if o.idempotency, err = single(h, HeaderIdempotency); err != nil {
		return o, err
	}
	if len(o.idempotency) > abi.MaxIdempotencyLen || !printable(o.idempotency) {
		return o, badHeader(HeaderIdempotency, o.idempotency,
			"1 to "+strconv.Itoa(abi.MaxIdempotencyLen)+" bytes of printable UTF-8")
	}
	return o, nil
}

// parseTimeout reads a Go duration or a number of milliseconds.
func parseTimeout(v string) (time.Duration, error) {
	const accepted = `a time above zero, such as "2s" or "1500" (milliseconds)`
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil {
		const most = int64(1<<63-1) / int64(time.Millisecond)
		if ms <= 0 {
			return 0, badHeader(HeaderTimeout, v, accepted)
		}
		return time.Duration(min(ms, most)) * time.Millisecond, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, badHeader(HeaderTimeout, v, accepted)
	}
	return d, nil
}

// bodyFormat reads Content-Type (none is JSON) and refuses what is neither JSON nor CBOR.
func bodyFormat(h http.Header) (format, error) {
	if v, err := single(h, "Content-Encoding"); err != nil || v != "" && !strings.EqualFold(v, "identity") {
		return 0, &statusError{status: http.StatusUnsupportedMediaType, err: abi.NewError(abi.ErrInvalidArgument,
			"compressed bodies are not read: send it without Content-Encoding")}
	}
	v, err := single(h, "Content-Type")
	if err != nil {
		return 0, err
	}
	switch v {
	case "", TypeJSON, typeForm:
		return formatJSON, nil
	case TypeCBOR:
		return formatCBOR, nil
	}
	name, params, _ := strings.Cut(v, ";")
	name = strings.TrimSpace(name)
	switch {
	case strings.EqualFold(name, TypeCBOR):
		return formatCBOR, nil
	case strings.EqualFold(name, TypeJSON):
		for rest, more := params, params != ""; more; {
			var p string
			p, rest, more = strings.Cut(rest, ";")
			key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if strings.EqualFold(key, "charset") && !strings.EqualFold(strings.Trim(value, `"`), "utf-8") {
				return 0, &statusError{status: http.StatusUnsupportedMediaType, err: abi.NewError(
					abi.ErrInvalidArgument, "JSON is read as UTF-8 only")}
			}
		}
		return formatJSON, nil
	}
	if strings.EqualFold(name, typeForm) {
		return formatJSON, nil
	}
	return 0, &statusError{status: http.StatusUnsupportedMediaType, err: abi.NewError(abi.ErrInvalidArgument,
		"Content-Type "+strconv.QuoteToASCII(cutText(v, 80))+" is not read: send "+TypeJSON+" or "+TypeCBOR)}
}

// replyFormat reads Accept (RFC 9110, 12.5.1): the better q wins, the request's own format on a tie.
func replyFormat(h http.Header, request format) (format, error) {
	vs := h["Accept"]
	if len(vs) == 0 || len(vs) == 1 && (vs[0] == "*/*" || vs[0] == "") {
		return request, nil
	}
	json, cbor := acceptQuality(vs, "json"), acceptQuality(vs, "cbor")
	switch {
	case json == 0 && cbor == 0:
		return 0, &statusError{status: http.StatusNotAcceptable, err: abi.NewError(abi.ErrInvalidArgument,
			"a reply is "+TypeJSON+" or "+TypeCBOR+"; Accept allows neither")}
	case json > cbor:
		return formatJSON, nil
	case cbor > json:
		return formatCBOR, nil
	}
	return request, nil
}

// acceptQuality returns the q of application/subtype in thousandths: that of the most specific range that matches it,
// 0 when none does. A range that does not parse is skipped.
func acceptQuality(values []string, subtype string) int {
	quality, specificity := 0, -1
	for _, v := range values {
		for more := true; more; {
			var item string
			item, v, more = strings.Cut(v, ",")
			name, params, _ := strings.Cut(item, ";")
			typ, sub, ok := strings.Cut(strings.TrimSpace(name), "/")
			if !ok {
				continue
			}
			s := -1
			switch {
			case strings.EqualFold(typ, "application") && strings.EqualFold(sub, subtype):
				s = 2
			case strings.EqualFold(typ, "application") && sub == "*":
				s = 1
			case typ == "*" && sub == "*":
				s = 0
			}
			q, ok := parseQ(params)
			if s > specificity && ok {
				quality, specificity = q, s
			}
		}
	}
	return quality
}

// parseQ finds q among the parameters of a media range, in thousandths; without one it is 1000.
func parseQ(params string) (int, bool) {
	for more := params != ""; more; {
		var p string
		p, params, more = strings.Cut(params, ";")
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(key, "q") {
			continue
		}
		whole, frac, _ := strings.Cut(value, ".")
		if (whole != "0" && whole != "1") || len(frac) > 3 {
			return 0, false
		}
		q := int(whole[0]-'0') * 1000
		for i, scale := 0, 100; i < len(frac); i, scale = i+1, scale/10 {
			if frac[i] < '0' || frac[i] > '9' {
				return 0, false
			}
			q += int(frac[i]-'0') * scale
		}
		return q, q <= 1000
	}
	return 1000, true
}

// printable reports whether s is UTF-8 without control characters.
func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// cutText shortens s to at most n bytes, whole characters only.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
