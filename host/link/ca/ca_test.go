package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is also the other process of TestConcurrentFirstStarts.
func TestMain(m *testing.M) {
	if dir := os.Getenv("WASILO_TEST_DEV_CA"); dir != "" {
		a, err := OpenDevelopment(dir, Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(a.Certificate())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestID(t *testing.T) {
	for _, s := range []string{"spiffe://prod/node/n1", "spiffe://a.b/node/N_1.x-y", "spiffe://_/node/.."} {
		id, err := ParseID(s)
		if err != nil || id.String() != s {
			t.Errorf("%s is %v, %v", s, id, err)
		}
	}
	long := strings.Repeat("a", MaxNameLen+1)
	for _, s := range []string{"", "spiffe://", "spiffe://prod", "spiffe://prod/node/", "spiffe:///node/n1", "spiffe://prod/node/a/b", "https://prod/node/n1",
		"spiffe://prod/n1", "spiffe://prod:1/node/n1", "spiffe://u@prod/node/n1", "spiffe://prod/node/n1?x", "spiffe://prod/node/n%31",
		"spiffe://.a/node/n", "spiffe://a./node/n", "spiffe://a..b/node/n", "spiffe://" + long + "/node/n", "spiffe://a/node/" + long, "SPIFFE://prod/node/n1"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q was taken for %v", s, id)
		}
	}
}

// FuzzParseID: one name has one spelling, and every name fits into a certificate.
func FuzzParseID(f *testing.F) {
	f.Add("spiffe://prod/node/n1")
	f.Add("spiffe://a-.b_/node/..")
	a := must(New(Options{}))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Fatalf("%q became %q", s, id)
		}
		c, err := a.Credentials(id)
		if err != nil || c.ID() != id {
			t.Fatalf("%v: %v", id, err)
		}
	})
}

// FuzzAuthority: files are refused, or are an authority whose own files are read as the same.
func FuzzAuthority(f *testing.F) {
	now := newClock().now
	a, b := must(New(Options{Now: now})), must(New(Options{Now: now}))
	key := must(encodeKey(a.key))
	node := must(a.Issue(ID{"c", "n"}, 0))
	f.Add(a.certPEM, key)
	f.Add(append([]byte("a comment\n"), a.certPEM...), append(bytes.Clone(key), key...))
	f.Add(b.certPEM, key)
	f.Add(node.Certificate, node.Key)
	f.Add(key, a.certPEM)
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		a, err := parseAuthority(certPEM, keyPEM, Options{Now: now})
		if err != nil {
			return
		}
		again, err := parseAuthority(a.certPEM, must(encodeKey(a.key)), Options{Now: now})
		if err != nil || !again.cert.Equal(a.cert) || !again.key.Equal(a.key) {
			t.Fatalf("the authority in %s became %v", certPEM, err)
		}
	})
}

func TestIssue(t *testing.T) {
	clock := newClock()
	a := must(New(Options{Now: clock.now}))
	if _, err := a.Issue(ID{"prod", "n/1"}, 0); !errors.Is(err, ErrInvalidNode) {
		t.Error(err)
	}
	if _, err := a.Issue(ID{"pr od", "n1"}, 0); !errors.Is(err, ErrInvalidCluster) {
		t.Error(err)
	}
	if _, err := a.Issue(ID{"prod", "n1"}, -1); err == nil {
		t.Error("a negative validity was taken")
	}
	leaf := func(validity time.Duration) *x509.Certificate {
		p := must(a.Issue(ID{"prod", "n1"}, validity))
		return must(tls.X509KeyPair(p.Certificate, p.Key)).Leaf
	}
	c := leaf(0)
	if len(c.URIs) != 1 || c.URIs[0].String() != "spiffe://prod/node/n1" || c.IsCA || len(c.DNSNames)+len(c.IPAddresses) > 0 {
		t.Errorf("%+v", c)
	}
	if got := c.NotAfter.Sub(clock.now()); got != NodeValidity {
		t.Error(got)
	}
	if clock.now().Sub(c.NotBefore) < time.Hour {
		t.Error("a clock an hour behind would not accept it")
	}
	if got := leaf(100 * 365 * 24 * time.Hour).NotAfter; got.After(a.cert.NotAfter) {
		t.Error("it outlasts its authority")
	}
	clock.add(AuthorityValidity + time.Hour)
	if _, err := a.Issue(ID{"prod", "n1"}, 0); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "ca")
	a, err := Init(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{KeyFile: 0o600, CertificateFile: 0o644} {
		info := must(os.Stat(filepath.Join(dir, name)))
		if info.Mode().Perm() != mode && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if _, err := Init(dir, Options{}); !errors.Is(err, ErrExists) {
		t.Error("an authority was overwritten:", err)
	}
	b, err := Load(dir, Options{})
	if err != nil || !bytes.Equal(a.Certificate(), b.Certificate()) || b.Development() {
		t.Fatal(err)
	}
	out := t.TempDir()
	certFile, keyFile, err := b.WriteNode(out, ID{"prod", "n1"}, time.Hour)
	if err != nil || certFile != filepath.Join(out, "n1.crt") || keyFile != filepath.Join(out, "n1.key") {
		t.Fatal(certFile, keyFile, err)
	}
	c, err := OpenFiles(filepath.Join(dir, CertificateFile), certFile, keyFile, Options{})
	if err != nil || c.ID() != (ID{"prod", "n1"}) || c.Development() {
		t.Fatal(err)
	}
	if entries := must(os.ReadDir(filepath.Dir(dir))); len(entries) != 1 {
		t.Errorf("something was left beside: %v", entries)
	}
}

func TestInitInADirectoryThatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Options{}); err != nil {
		t.Fatal(err)
	}
}

func TestKeysThatOthersMayRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("windows has no such permissions")
	}
	dir := t.TempDir()
	a := must(Init(dir, Options{}))
	certFile, keyFile, err := a.WriteNode(dir, ID{"prod", "n1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(dir, KeyFile)
	for _, mode := range []os.FileMode{0o604, 0o640, 0o666} {
		if err := os.Chmod(authority, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, Options{}); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+authority) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o660: false, 0o644: false, 0o601: false} {
		if err := os.Chmod(keyFile, mode); err != nil {
			t.Fatal(err)
		}
		_, err := OpenFiles(filepath.Join(dir, CertificateFile), certFile, keyFile, Options{})
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrExposed) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	must(Init(dir, Options{}))
	other := t.TempDir()
	must(Init(other, Options{}))
	swap := func(from, to string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, to), must(os.ReadFile(from)), mode); err != nil {
			t.Fatal(err)
		}
	}
	original := must(os.ReadFile(filepath.Join(dir, KeyFile)))
	swap(filepath.Join(other, KeyFile), KeyFile, 0o600)
	if _, err := Load(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not that of the key") {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), original[:len(original)/2], pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: []byte("x")})} {
		if err := os.WriteFile(filepath.Join(dir, KeyFile), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, Options{}); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
	swap(filepath.Join(other, KeyFile), "n1.key", 0o600)
	for _, files := range [][3]string{{"none", "ca.crt", "n1.key"}, {"ca.crt", "none", "n1.key"}, {"ca.crt", "ca.crt", "none"}, {"n1.key", "ca.crt", "n1.key"}} {
		for i, f := range files {
			files[i] = filepath.Join(dir, f)
		}
		if _, err := OpenFiles(files[0], files[1], files[2], Options{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v: %v", files, err)
		}
	}
	// An authority's own certificate names no node.
	if _, err := OpenFiles(filepath.Join(other, "ca.crt"), filepath.Join(other, "ca.crt"), filepath.Join(other, "ca.key"), Options{}); !errors.Is(err, ErrNoNode) {
		t.Error(err)
	}
}

func TestConcurrentFirstStarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config", "wasilo", "dev-ca")
	self := must(os.Executable())
	var wg sync.WaitGroup
	got := make([][]byte, 8)
	for i := range got {
		wg.Go(func() {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "WASILO_TEST_DEV_CA="+dir)
			out, err := cmd.Output()
			if err != nil {
				t.Error(err)
			}
			got[i] = out
		})
	}
	wg.Wait()
	for _, cert := range got {
		if len(cert) == 0 || !bytes.Equal(cert, got[0]) {
			t.Fatal("two first starts disagree")
		}
	}
	// Within a process too, and nothing is left beside.
	for range 8 {
		wg.Go(func() {
			if a, err := OpenDevelopment(dir, Options{}); err != nil || !a.Development() || !bytes.Equal(a.Certificate(), got[0]) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if entries := must(os.ReadDir(filepath.Dir(dir))); len(entries) != 1 {
		t.Errorf("left beside: %v", entries)
	}
	if info := must(os.Stat(dir)); info.Mode().Perm() != 0o700 && runtime.GOOS != "windows" {
		t.Error(info.Mode())
	}
}

func TestDevelopmentDir(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the directory is the system's choice")
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	a, err := OpenDevelopment("", Options{})
	if err != nil || !a.Development() {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "wasilo", "dev-ca", KeyFile)); err != nil {
		t.Error(err)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	if _, err := OpenDevelopment("", Options{}); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Error(err)
	}
}

func TestDevelopmentExpires(t *testing.T) {
	clock := newClock()
	dir := filepath.Join(t.TempDir(), "dev-ca")
	must(OpenDevelopment(dir, Options{Now: clock.now}))
	clock.add(AuthorityValidity + time.Hour)
	if _, err := OpenDevelopment(dir, Options{Now: clock.now}); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "remove "+dir) {
		t.Error(err)
	}
}

// handshake connects two configurations and returns what each end made of it. The client reads once, since that is when it
// learns that it was refused.
func handshake(client, server *tls.Config) (peer ID, clientErr, serverErr error) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	a := must(net.Dial("tcp", ln.Addr().String()))
	b := must(ln.Accept())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := tls.Server(b, server)
		if serverErr = s.Handshake(); serverErr == nil {
			peer, _, serverErr = PeerOf(s.ConnectionState())
			_, _ = s.Write([]byte{1})
		}
		b.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, b) // unread, it would cut off the alert
		b.Close()
	}()
	c := tls.Client(a, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	if clientErr == io.EOF {
		clientErr = nil
	}
	a.Close()
	<-done
	return peer, clientErr, serverErr
}

func TestHandshake(t *testing.T) {
	clock := newClock()
	opt := Options{Now: clock.now}
	ours, foreign := must(New(opt)), must(New(opt))
	n1, n2 := ID{"prod", "n1"}, ID{"prod", "n2"}
	creds := func(a *Authority, id ID) *Credentials { return must(a.Credentials(id)) }
	server := creds(ours, n2)
	peer, good, bad := handshake(creds(ours, n1).Client(n2), server.Server())
	if good != nil || bad != nil || peer != n1 {
		t.Fatal(good, bad, peer)
	}
	expired := func() *Credentials {
		p := must(ours.Issue(n1, time.Minute))
		dir := t.TempDir()
		write := func(name string, b []byte) string {
			name = filepath.Join(dir, name)
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return name
		}
		return must(OpenFiles(write("ca", ours.Certificate()), write("crt", p.Certificate), write("key", p.Key), opt))
	}()
	for _, c := range []struct {
		name           string
		client, server *Credentials
		want           ID
		after          time.Duration
		clientErr      error // of the client, nil: it is told by an alert
		serverErr      error
	}{
		{name: "the wrong node answers", client: creds(ours, n1), server: creds(ours, ID{"prod", "n3"}), want: n2, clientErr: ErrWrongNode},
		{name: "the wrong cluster answers", client: creds(ours, n1), server: creds(ours, ID{"test", "n2"}), want: n2, clientErr: ErrWrongCluster},
		{name: "a foreign server", client: creds(ours, n1), server: creds(foreign, n2), want: n2, clientErr: ErrForeign},
		{name: "a foreign client", client: func() *Credentials {
			c := creds(foreign, n1)
			c.current.roots = server.current.roots // it believes us, and we do not believe it
			return c
		}(), server: server, want: n2, serverErr: ErrForeign},
		{name: "an expired client", client: expired, server: server, want: n2, after: 2 * time.Minute, serverErr: ErrExpired},
		{name: "an expired server", client: creds(ours, n2), server: expired, want: n1, clientErr: ErrExpired},
	} {
		clock.add(c.after)
		_, clientErr, serverErr := handshake(c.client.Client(c.want), c.server.Server())
		if c.clientErr != nil && !errors.Is(clientErr, c.clientErr) || clientErr == nil {
			t.Errorf("%s: the client says %v", c.name, clientErr)
		}
		if c.serverErr != nil && !errors.Is(serverErr, c.serverErr) {
			t.Errorf("%s: the server says %v", c.name, serverErr)
		}
	}
	// A node of another cluster under the same authority gets through: the link tells it why it is refused.
	if peer, clientErr, serverErr := handshake(creds(ours, ID{"test", "n1"}).Client(n2), server.Server()); clientErr != nil || serverErr != nil || peer.Cluster != "test" {
		t.Error(clientErr, serverErr, peer)
	}
	// A clock far behind.
	behind := Options{Now: func() time.Time { return clock.now().Add(-48 * time.Hour) }}
	slow := must(ours.Credentials(n1))
	slow.opt = behind.filled()
	if _, clientErr, _ := handshake(slow.Client(n2), creds(ours, n2).Server()); !errors.Is(clientErr, ErrNotYetValid) || !strings.Contains(clientErr.Error(), "clock") {
		t.Error(clientErr)
	}
	// No certificate at all, and an old version.
	plain := &tls.Config{InsecureSkipVerify: true}
	if _, clientErr, serverErr := handshake(plain, server.Server()); clientErr == nil || serverErr == nil {
		t.Error("a client without a certificate got through")
	}
	old := creds(ours, n1).Client(n2)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, clientErr, serverErr := handshake(old, server.Server()); clientErr == nil || serverErr == nil {
		t.Error("TLS 1.2 was spoken")
	}
}

func TestNodesCannotCertify(t *testing.T) {
	a := must(New(Options{}))
	p := must(a.Issue(ID{"prod", "n1"}, 0))
	pair := must(tls.X509KeyPair(p.Certificate, p.Key))
	rogue := &Authority{opt: a.opt, cert: pair.Leaf, certPEM: p.Certificate, key: pair.PrivateKey.(ed25519.PrivateKey)}
	q := must(rogue.Issue(ID{"prod", "n2"}, 0))
	forged := must(tls.X509KeyPair(q.Certificate, q.Key))
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	if id, err := verify([]*x509.Certificate{forged.Leaf, pair.Leaf}, roots, x509.ExtKeyUsageClientAuth, time.Now()); err == nil {
		t.Errorf("a node's certificate made %v", id)
	}
}

func TestCredentialsRenewThemselves(t *testing.T) {
	clock := newClock()
	a := must(New(Options{Now: clock.now}))
	c := must(a.Credentials(ID{"prod", "n1"}))
	first := c.get().cert.Leaf
	clock.add(DevelopmentValidity/2 - time.Minute)
	if c.get().cert.Leaf != first {
		t.Error("renewed too early")
	}
	clock.add(2 * time.Minute)
	second := c.get().cert.Leaf
	if second == first || !second.NotAfter.After(first.NotAfter) {
		t.Error("not renewed")
	}
	var warned error
	c.opt.Warn = func(err error) { warned = err }
	clock.add(AuthorityValidity)
	if c.get().cert.Leaf != second || !errors.Is(warned, ErrExpired) {
		t.Error("an authority that has expired renews:", warned)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	var warned []error
	opt := Options{Now: clock.now, Warn: func(err error) { warned = append(warned, err) }}
	a := must(Init(dir, opt))
	id := ID{"prod", "n1"}
	certFile, keyFile, err := a.WriteNode(dir, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := must(OpenFiles(filepath.Join(dir, CertificateFile), certFile, keyFile, opt))
	first := c.get().cert.Leaf
	changed := func(name string, at int) { // mtime may be coarse
		t.Helper()
		when := time.Unix(int64(at), 0)
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.WriteNode(dir, id, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	changed(certFile, 1)
	clock.add(2 * lookAfter)
	second := c.get().cert.Leaf
	if second == first || len(warned) > 0 {
		t.Fatal("the new files were not read", warned)
	}
	for i, bad := range []struct {
		id   ID
		text string
	}{{ID{"prod", "n2"}, "this node is spiffe://prod/node/n1"}, {}} {
		if bad.text != "" {
			p := must(a.Issue(bad.id, 0))
			if err := errors.Join(os.WriteFile(certFile, p.Certificate, 0o644), os.WriteFile(keyFile, p.Key, 0o600)); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(certFile, []byte("half a cert"), 0o644); err != nil {
			t.Fatal(err)
		}
		changed(certFile, 10+i)
		warned = nil
		clock.add(2 * retryAfter)
		if c.get().cert.Leaf != second || len(warned) != 1 || !strings.Contains(warned[0].Error(), bad.text) {
			t.Errorf("what cannot be used was used: %v", warned)
		}
	}
	if _, _, err := a.WriteNode(dir, id, 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	changed(certFile, 20)
	clock.add(2 * retryAfter)
	if third := c.get().cert.Leaf; third == second {
		t.Error("it does not recover")
	}
}
