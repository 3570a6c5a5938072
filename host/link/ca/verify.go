package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Why a certificate was not believed. Each is wrapped in a [CertificateError].
var (
	ErrExpired      = errors.New("it has expired")
	ErrNotYetValid  = errors.New("it is not valid yet")
	ErrForeign      = errors.New("it is of another authority")
	ErrNoNode       = errors.New("it names no node")
	ErrWrongCluster = errors.New("it is of another cluster")
	ErrWrongNode    = errors.New("it is of another node")
	ErrMissing      = errors.New("there is none")
)

// CertificateError says whose certificate was not believed, why, and what would help.
type CertificateError struct {
	Name   string // whose it is, as far as it says; not to be trusted
	Reason error  // one of the errors above
	Detail string // dates, names, what to do
}

func (e *CertificateError) Error() string {
	s := "the certificate of " + e.Name + " is not accepted: " + e.Reason.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Reason }

// verify checks a chain, leaf first, and returns the node that it names.
func verify(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (ID, error) {
	if len(chain) == 0 {
		return ID{}, &CertificateError{Name: "the peer", Reason: ErrMissing}
	}
	leaf := chain[0]
	id, idErr := nodeOf(leaf)
	name := "the peer"
	if idErr == nil {
		name = id.String()
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{usage}})
	if err == nil {
		return id, idErr
	}
	e := &CertificateError{Name: name, Reason: err}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		c := leaf // or the one above it
		if invalid.Cert != nil {
			c = invalid.Cert
		}
		e.Reason, e.Detail = ErrExpired, since(c, now)
		if now.Before(c.NotBefore) {
			e.Reason = ErrNotYetValid
		}
	case errors.As(err, &unknown):
		e.Reason = ErrForeign
		e.Detail = "nodes of a cluster need certificates of one authority (`wasilo node cert`)"
	}
	return ID{}, e
}

// since tells the dates of a certificate.
func since(c *x509.Certificate, now time.Time) string {
	if now.Before(c.NotBefore) {
		return fmt.Sprintf("it begins %s, and it is %s here: check the clocks of both nodes",
			c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("it ended %s, and it is %s here: issue a new one (`wasilo node cert`), or check the clocks",
		c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// nodeOf returns the node that a certificate names.
func nodeOf(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, &CertificateError{Name: fmt.Sprintf("%q", shorten(c.Subject.CommonName)), Reason: ErrNoNode,
			Detail: fmt.Sprintf("it has %d URIs, and a node's has one, spiffe://CLUSTER/node/ID", len(c.URIs))}
	}
	id, err := ParseID(c.URIs[0].String())
	if err != nil {
		return ID{}, &CertificateError{Name: fmt.Sprintf("%q", shorten(c.Subject.CommonName)), Reason: ErrNoNode, Detail: err.Error()}
	}
	return id, nil
}

// PeerOf returns the node at the other end of a connection, and when its certificate ends. The tls.Config must be one of
// [Credentials], whose handshake has verified the certificate.
func PeerOf(state tls.ConnectionState) (ID, time.Time, error) {
	if len(state.PeerCertificates) == 0 {
		return ID{}, time.Time{}, &CertificateError{Name: "the peer", Reason: ErrMissing}
	}
	leaf := state.PeerCertificates[0]
	id, err := nodeOf(leaf)
	return id, leaf.NotAfter, err
}
