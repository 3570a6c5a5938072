package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Credentials are what a node proves itself by and whom it believes. They may be used from any goroutine.
type Credentials struct {
	opt         Options
	id          ID
	development bool
	source      source

	mu      sync.Mutex
	current *identity
}

// identity is one state of credentials; it never changes.
type identity struct {
	cert  *tls.Certificate // with its Leaf
	roots *x509.CertPool
	mark  []mark    // of the files it came from
	renew time.Time // when to look for another
}

// source makes the next identity. It returns old when there is nothing newer.
type source interface {
	next(old *identity, now time.Time) (*identity, error)
}

// Credentials returns credentials for a node of this process: certificates of [DevelopmentValidity], renewed at half of it.
func (a *Authority) Credentials(id ID) (*Credentials, error) {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return newCredentials(&issuing{authority: a, id: id, roots: roots}, a.opt, a.development)
}

// OpenFiles returns credentials from files: whom to believe, the node's certificate (with intermediate ones, if there are any),
// and its key. They are read again when they change; if what is there then is unusable, the old ones stay in use and
// opt.Warn is told.
func OpenFiles(caFile, certFile, keyFile string, opt Options) (*Credentials, error) {
	return newCredentials(&reading{files: [3]string{caFile, certFile, keyFile}}, opt.filled(), false)
}

func newCredentials(s source, opt Options, development bool) (*Credentials, error) {
	c := &Credentials{opt: opt, development: development, source: s}
	first, err := s.next(nil, opt.Now())
	if err != nil {
		return nil, err
	}
	if c.id, err = verify(chainOf(first), first.roots, x509.ExtKeyUsageClientAuth, opt.Now()); err != nil {
		return nil, err
	}
	c.current = first
	c.warnOfEnd(opt.Now())
	return c, nil
}

// ID returns the node that the certificate names.
func (c *Credentials) ID() ID { return c.id }

// Development reports whether they come from the user's development authority.
func (c *Credentials) Development() bool { return c.development }

// Now returns the time by which certificates are judged.
func (c *Credentials) Now() time.Time { return c.opt.Now() }

// get returns the present identity, renewed if it is time.
func (c *Credentials) get() *identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opt.Now()
	if now.Before(c.current.renew) {
		return c.current
	}
	next, err := c.source.next(c.current, now)
	if err == nil && next != c.current {
		var id ID
		if id, err = verify(chainOf(next), next.roots, x509.ExtKeyUsageClientAuth, now); err == nil && id != c.id {
			err = &CertificateError{Name: id.String(), Reason: ErrWrongNode, Detail: "this node is " + c.id.String()}
		}
	}
	switch {
	case err != nil:
		c.opt.Warn(fmt.Errorf("the node's certificate stays as it is: %w", err))
		kept := *c.current
		kept.renew = now.Add(retryAfter)
		next = &kept
	case next.cert.Leaf != c.current.cert.Leaf:
		c.opt.Renewed(next.cert.Leaf.NotAfter)
	}
	c.current = next
	if err == nil {
		c.warnOfEnd(now)
	}
	return next
}

// warnOfEnd tells that the certificate has less than a tenth of its time left. It comes to that only where a person renews.
func (c *Credentials) warnOfEnd(now time.Time) {
	leaf := c.current.cert.Leaf
	validity, left := leaf.NotAfter.Sub(leaf.NotBefore)-Backdate, leaf.NotAfter.Sub(now)
	if left < validity/10 {
		c.opt.Warn(fmt.Errorf("the node's certificate ends %s: issue a new one in its place (`wasilo node cert`), which is then taken over by itself",
			leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
}

// Trusted returns the authorities that are believed now. It is another pool when they have changed, and looks whether they have.
func (c *Credentials) Trusted() *x509.CertPool { return c.get().roots }

// Check verifies the certificate of a connection that stands once more: whoever made it may not be believed any longer. What it
// says of time is left to the end of the certificate (see [PeerOf]).
func (c *Credentials) Check(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return &CertificateError{Name: "the peer", Reason: ErrMissing}
	}
	leaf := state.PeerCertificates[0]
	_, err := verify(state.PeerCertificates, c.get().roots, x509.ExtKeyUsageAny, leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore)/2))
	return err
}

const (
	retryAfter = 10 * time.Second // after a failure to renew
	lookAfter  = time.Second      // between two looks at the files
)

// Server returns the configuration for the side that is dialled: mutual TLS 1.3. It verifies that the certificate of the other side
// is of this authority and names a node; which node and cluster it may be is for the caller to check by [PeerOf], who can
// tell the other side what is wrong, as a failed handshake cannot.
func (c *Credentials) Server() *tls.Config {
	cfg := c.base()
	cfg.ClientAuth = tls.RequestClientCert // required, and verified, below: the error then says so
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get().cert, nil }
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := verify(s.PeerCertificates, c.get().roots, x509.ExtKeyUsageClientAuth, c.opt.Now())
		return err
	}
	return cfg
}

// Client returns the configuration for the side that dials want, and no other node.
func (c *Credentials) Client(want ID) *tls.Config {
	cfg := c.base()
	cfg.InsecureSkipVerify = true // of host names, which count for nothing here; VerifyConnection sees to the rest
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.get().cert, nil }
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		id, err := verify(s.PeerCertificates, c.get().roots, x509.ExtKeyUsageServerAuth, c.opt.Now())
		if err != nil {
			return err
		}
		return expect(id, want)
	}
	return cfg
}

// expect compares the node that a certificate names with the one that was dialled.
func expect(id, want ID) error {
	e := &CertificateError{Name: id.String(), Reason: ErrWrongNode, Detail: "node " + want.Node + " of cluster " + want.Cluster + " was dialled"}
	switch {
	case id == want:
		return nil
	case id.Cluster != want.Cluster:
		e.Reason = ErrWrongCluster
	}
	return e
}

func (c *Credentials) base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Time: c.opt.Now, SessionTicketsDisabled: true,
		DynamicRecordSizingDisabled: true} // frames are batched already
}

func chainOf(i *identity) []*x509.Certificate {
	chain := []*x509.Certificate{i.cert.Leaf}
	for _, der := range i.cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// issuing has the authority at hand.
type issuing struct {
	authority *Authority
	id        ID
	roots     *x509.CertPool
}

func (s *issuing) next(_ *identity, now time.Time) (*identity, error) {
	p, err := s.authority.Issue(s.id, DevelopmentValidity)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return nil, err
	}
	return &identity{cert: &cert, roots: s.roots, renew: now.Add(DevelopmentValidity / 2)}, nil
}

// reading has files.
type reading struct {
	files [3]string // authority, certificate, key
}

// mark tells whether a file has changed.
type mark struct {
	size int64
	at   time.Time
}

func (s *reading) next(old *identity, now time.Time) (*identity, error) {
	marks := make([]mark, len(s.files))
	for i, name := range s.files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxFile {
			return nil, fmt.Errorf("%s: %d bytes are no certificate", name, info.Size())
		}
		marks[i] = mark{info.Size(), info.ModTime()}
	}
	if old != nil && slices.Equal(old.mark, marks) {
		same := *old
		same.renew = now.Add(lookAfter)
		return &same, nil
	}
	i := &identity{mark: marks, roots: x509.NewCertPool(), renew: now.Add(lookAfter)}
	bundle, err := os.ReadFile(s.files[0])
	if err != nil {
		return nil, err
	}
	if !i.roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("%s: there is no certificate in PEM in it", s.files[0])
	}
	certPEM, err := os.ReadFile(s.files[1])
	if err != nil {
		return nil, err
	}
	keyPEM, err := readSecret(s.files[2], 0o640) // a group may: that is how secrets are mounted
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", s.files[1], s.files[2], err)
	}
	if cert.Leaf == nil {
		return nil, errors.New(s.files[1] + ": there is no certificate in it")
	}
	i.cert = &cert
	return i, nil
}
