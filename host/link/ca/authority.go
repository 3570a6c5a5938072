package ca

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// How long certificates hold.
const (
	// AuthorityValidity is that of an authority.
	AuthorityValidity = 10 * 365 * 24 * time.Hour
	// NodeValidity is that of a node's files unless asked otherwise.
	NodeValidity = 365 * 24 * time.Hour
	// DevelopmentValidity is that of certificates which an authority at hand issues to its own process, and renews.
	DevelopmentValidity = 24 * time.Hour
	// Backdate is how far before its making a certificate begins to hold: clocks of nodes may differ by as much.
	Backdate = 24 * time.Hour
)

// Options are the seams of this package; the zero value is what nodes use.
type Options struct {
	// Now is the clock that certificates are dated and judged by; nil is time.Now.
	Now func() time.Time
	// Warn is told, on any goroutine, when credentials could not be renewed and the old ones stay in use, and when a certificate of files
	// will end soon. It may be told the same again and again. nil: nobody is.
	Warn func(error)
	// Renewed is told, likewise, of a certificate that has taken the place of the former, and when it ends.
	Renewed func(until time.Time)
}

func (o Options) filled() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.Renewed == nil {
		o.Renewed = func(time.Time) {}
	}
	return o
}

// Authority is a certificate authority with its key. Its methods may be called from any goroutine.
type Authority struct {
	opt         Options
	cert        *x509.Certificate
	certPEM     []byte
	key         ed25519.PrivateKey
	development bool
}

// New makes an authority that nothing but this process knows: for tests, and for a node on its own.
func New(opt Options) (*Authority, error) {
	opt = opt.filled()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	now := opt.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "wasilo authority"},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(AuthorityValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{opt: opt, cert: cert, certPEM: encodePEM(typeCertificate, der), key: key}, nil
}

// Certificate returns the authority's own certificate in PEM: what nodes are given to believe.
func (a *Authority) Certificate() []byte { return append([]byte(nil), a.certPEM...) }

// Development reports whether this is the user's development authority, which proves nothing beyond this machine.
func (a *Authority) Development() bool { return a.development }

// Pair is a certificate and its key in PEM.
type Pair struct{ Certificate, Key []byte }

// Issue makes a certificate for a node, with a key of its own; validity 0 is [NodeValidity]. It never outlasts the authority.
func (a *Authority) Issue(id ID, validity time.Duration) (Pair, error) {
	if err := id.Check(); err != nil {
		return Pair{}, err
	}
	if validity < 0 {
		return Pair{}, fmt.Errorf("a certificate cannot hold for %s", validity)
	}
	if validity == 0 {
		validity = NodeValidity
	}
	now := a.opt.Now()
	if now.After(a.cert.NotAfter) {
		return Pair{}, &CertificateError{Name: "the authority", Reason: ErrExpired, Detail: since(a.cert, now)}
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	end := now.Add(validity)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.Node},
		URIs:        []*url.URL{id.url()},
		NotBefore:   now.Add(-Backdate),
		NotAfter:    end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Certificate: encodePEM(typeCertificate, der), Key: keyPEM}, nil
}

// Names of PEM blocks.
const typeCertificate, typeKey = "CERTIFICATE", "PRIVATE KEY"

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encodePEM(typeKey, der), nil
}

// parseAuthority checks that both texts belong together and make an authority.
func parseAuthority(certPEM, keyPEM []byte, opt Options) (*Authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != typeCertificate {
		return nil, errors.New("the certificate is not in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	block, _ = pem.Decode(keyPEM)
	if block == nil || block.Type != typeKey {
		return nil, errors.New("the key is not in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	switch {
	case !ok:
		return nil, errors.New("the key is not Ed25519")
	case !cert.IsCA:
		return nil, errors.New("the certificate is not that of an authority")
	case !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey):
		return nil, errors.New("the certificate is not that of the key")
	}
	return &Authority{opt: opt.filled(), cert: cert, certPEM: encodePEM(typeCertificate, cert.Raw), key: key}, nil
}
