package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
)

// bodyTimeout bounds how long a body may take to arrive, so that slow senders hold no goroutine for long.
const bodyTimeout = 30 * time.Second

// expectBody starts the time that the body of r has, whether or not somebody reads it: net/http reads off what a handler
// left before it takes the next request, and would wait for it as long as for the longest call. Who has read the whole
// body ends that time by bodyRead; in every other case the connection closes when it is over.
func (g *Gateway) expectBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// Not every ResponseWriter has deadlines; those of net/http do, and others have no connection to guard.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.bodyTimeout))
	}
}

// bodyRead lets the connection wait again: a read deadline that passes would end the request's context.
func bodyRead(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// call answers POST /v1/actors/{kind}/{id}/{method}; rest is the path after "/v1/actors/".
//
// Checks go from cheap to dear: the path, the headers, whether the method exists, and only then the body.
func (g *Gateway) call(w http.ResponseWriter, r *http.Request, rest string) (int, error) {
	path, err := splitActorPath(rest)
	if err != nil {
		return 0, err
	}
	target, err := path.target()
	if err != nil {
		return 0, err
	}
	in, err := bodyFormat(r.Header)
	if err != nil {
		return 0, err
	}
	out, err := replyFormat(r.Header, in)
	if err != nil {
		return 0, err
	}
	opt, err := parseOptions(r.Header)
	if err != nil {
		return 0, err
	}
	if opt.timeout == 0 {
		opt.timeout = g.defaultTimeout
	}
	timeout := min(opt.timeout, g.maxTimeout)
	began := time.Now()
	method, err := g.node.Method(r.Context(), target.Kind(), path.method, began.Add(timeout))
	if err != nil {
		return 0, err
	}
	timeout -= time.Since(began)
	var params, result *abi.Schema
	if method != nil {
		params, result = method.Params, method.Result
		if method.ReadOnly {
			opt.flags |= abi.Idempotent // nothing happens twice, so a lost call may be sent again
		}
	}
	payload, err := g.payload(w, r, in, params)
	if err != nil {
		return 0, err
	}
	env := abi.Envelope{
		Target: target, Method: path.method, Payload: payload, Flags: opt.flags,
		IdempotencyKey: opt.idempotency, Deadline: time.Now().Add(timeout), // what is left; the body's time is its own
	}
	env.TraceParent, env.TraceState = traceContext(r.Header)
	reply, err := g.node.Send(r.Context(), &env)
	if err != nil {
		return 0, err
	}
	if opt.flags&abi.OneWay != 0 {
		w.WriteHeader(http.StatusAccepted)
		return http.StatusAccepted, nil
	}
	return g.reply(w, reply, out, result)
}

// reply writes what the actor answered.
func (g *Gateway) reply(w http.ResponseWriter, reply []byte, out format, result *abi.Schema) (int, error) {
	if len(reply) == 0 {
		reply = cborNull
	}
	if out == formatJSON {
		js, err := cbor.ToJSON(reply, result)
		if err != nil {
			return 0, noJSON(reply, err)
		}
		writeBody(w, http.StatusOK, jsonHeader, append(js, '\n')) // curl adds none, and a prompt would follow on the line
		return http.StatusOK, nil
	}
	if err := cbor.Wellformed(reply); err != nil {
		return 0, noCBOR(err)
	}
	writeBody(w, http.StatusOK, cborHeader, reply)
	return http.StatusOK, nil
}

// noJSON tells an actor that answers nonsense from one whose answer JSON cannot hold, such as NaN.
func noJSON(reply []byte, err error) error {
	if bad := cbor.Wellformed(reply); bad != nil {
		return noCBOR(bad)
	}
	return abi.NewError(abi.ErrUnsupported, "the reply has no JSON form, ask for it with Accept: "+TypeCBOR+"; the call took effect: "+
		err.Error())
}

func noCBOR(err error) error {
	return abi.NewError(abi.ErrTrap, "the actor's reply is not CBOR: "+err.Error())
}

var (
	cborNull  = []byte{0xf6}
	emptyJSON = []byte("{}")
)

// payload reads the body and returns it as CBOR, which nothing else refers to: an actor may keep it.
func (g *Gateway) payload(w http.ResponseWriter, r *http.Request, in format, params *abi.Schema) ([]byte, error) {
	if in == formatCBOR {
		body, err := g.readBody(w, r, nil, g.maxMessage)
		if err != nil {
			return nil, err
		}
		if len(body) == 0 {
			return []byte{0xa0}, nil // the empty map
		}
		if err := cbor.Wellformed(body); err != nil {
			return nil, invalidBody("the body is not CBOR: ", err)
		}
		return body, nil
	}
	if r.ContentLength == 0 {
		return g.fromJSON(emptyJSON, params)
	}
	buf := bodyPool.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooled {
			bodyPool.Put(buf)
		}
	}()
	body, err := g.readBody(w, r, (*buf)[:0], 2*g.maxMessage)
	if err != nil {
		return nil, err
	}
	*buf = body
	if len(body) == 0 {
		body = emptyJSON
	}
	return g.fromJSON(body, params)
}

func (g *Gateway) fromJSON(body []byte, params *abi.Schema) ([]byte, error) {
	payload, err := cbor.FromJSON(body, params)
	if err != nil {
		return nil, invalidBody("the body: ", err)
	}
	if len(payload) > g.maxMessage {
		return nil, tooLarge(g.maxMessage)
	}
	return payload, nil
}

// invalidBody says what is wrong with a body, as the caller's mistake.
func invalidBody(what string, err error) error {
	code := abi.CodeOf(err)
	if code == abi.ErrInternal { // an error without a code comes from a codec, and there the input is to blame
		code = abi.ErrInvalidArgument
	}
	return abi.NewError(code, what+err.Error())
}

func tooLarge(limit int) error {
	return abi.NewError(abi.ErrPayloadTooLarge, "the message is over the limit of "+strconv.Itoa(limit)+
		" bytes (limits.max_message)")
}

// bodyTooLarge is the error of a body of more than limit bytes, which for JSON is twice that of a message.
func (g *Gateway) bodyTooLarge(limit int) error {
	if limit == g.maxMessage {
		return tooLarge(limit)
	}
	return abi.NewError(abi.ErrPayloadTooLarge, "the body has more than "+strconv.Itoa(limit)+" bytes, which is what JSON of a message of "+
		strconv.Itoa(g.maxMessage)+" (limits.max_message) may take; CBOR is shorter")
}

// JSON bodies are read into pooled buffers, since the codec copies what it keeps. Rare large ones are not kept.
const maxPooled = 64 << 10

var bodyPool = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// readBody appends the whole body to buf, at most limit bytes of it.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, buf []byte, limit int) ([]byte, error) {
	n := r.ContentLength
	if n == 0 || r.Body == nil || r.Body == http.NoBody {
		return buf, nil
	}
	if n > int64(limit) {
		// The connection is not worth keeping: its rest would have to be read first.
		w.Header().Set("Connection", "close")
		return nil, g.bodyTooLarge(limit)
	}
	if n > 0 {
		if cap(buf) < int(n) {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			return nil, g.bodyError(w, err)
		}
		bodyRead(w)
		return buf, nil
	}
	body := http.MaxBytesReader(w, r.Body, int64(limit))
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), max(512, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		m, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		switch {
		case err == io.EOF:
			bodyRead(w)
			return buf, nil
		case err != nil:
			return nil, g.bodyError(w, err)
		}
	}
}

// bodyError says why a body could not be read. The connection ends: where its next request would begin is not known.
func (g *Gateway) bodyError(w http.ResponseWriter, err error) error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return g.bodyTooLarge(int(over.Limit))
	}
	w.Header().Set("Connection", "close")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &statusError{status: http.StatusRequestTimeout, err: abi.NewError(abi.ErrInvalidArgument,
			"the body did not arrive within "+g.bodyTimeout.String()+"; nothing was done")}
	}
	return abi.NewError(abi.ErrInvalidArgument, "the body ended early: "+err.Error())
}
