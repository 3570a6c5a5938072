package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The files of an authority's directory.
const (
	CertificateFile = "ca.crt" // for everybody
	KeyFile         = "ca.key" // for the authority alone
)

// ErrExists is wrapped when [Init] finds an authority: making another would orphan every certificate of the first.
var ErrExists = errors.New("there is an authority already")

// Init makes an authority in dir, which is made if need be and must hold none.
func Init(dir string, opt Options) (*Authority, error) {
	a, err := New(opt)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		err = a.makeDir(dir)
		return a, err
	}
	for _, name := range []string{KeyFile, CertificateFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w; take another directory, or remove %s and %s there to have every node certified anew",
				dir, ErrExists, CertificateFile, KeyFile)
		}
	}
	return a, a.writeInto(dir)
}

// Load reads the authority that [Init] made in dir.
func Load(dir string, opt Options) (*Authority, error) {
	certFile, keyFile := filepath.Join(dir, CertificateFile), filepath.Join(dir, KeyFile)
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("no authority in %s: %w", dir, err)
	}
	keyPEM, err := readSecret(keyFile, 0o600)
	if err != nil {
		return nil, fmt.Errorf("no authority in %s: %w", dir, err)
	}
	a, err := parseAuthority(certPEM, keyPEM, opt)
	if err != nil {
		return nil, fmt.Errorf("the authority in %s is unusable: %w; remove the directory and make a new one", dir, err)
	}
	return a, nil
}

// DevelopmentDir is where the user's development authority lives: wasilo/dev-ca in the user's configuration directory.
func DevelopmentDir() (string, error) {
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for a development authority: %w; set HOME, or give the node certificates of its own", err)
	}
	return filepath.Join(base, "wasilo", "dev-ca"), nil
}

// OpenDevelopment returns the development authority in dir, which is made if there is none; "" is [DevelopmentDir]. Any number of
// processes may come first at once and all get the same one: each makes an authority aside, and renaming a directory, which only
// one can do, settles which is the one. There is no lock to be left behind.
func OpenDevelopment(dir string, opt Options) (*Authority, error) {
	if dir == "" {
		var err error
		if dir, err = DevelopmentDir(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, KeyFile)); errors.Is(err, fs.ErrNotExist) {
		a, err := New(opt)
		if err != nil {
			return nil, err
		}
		if err := a.makeDir(dir); err != nil && !errors.Is(err, ErrExists) {
			return nil, fmt.Errorf("the development authority cannot be made: %w", err)
		}
	}
	a, err := Load(dir, opt)
	if err != nil {
		return nil, err
	}
	if now := a.opt.Now(); now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("%w; remove %s, and the next node to start makes a new one",
			&CertificateError{Name: "the development authority", Reason: ErrExpired, Detail: since(a.cert, now)}, dir)
	}
	a.development = true
	return a, nil
}

// makeDir makes dir with the authority in it, all at once. The error wraps [ErrExists] if somebody else was first.
func (a *Authority) makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	aside, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside) // nothing, once it has been renamed
	if err := a.writeInto(aside); err != nil {
		return err
	}
	if err := os.Rename(aside, dir); err != nil {
		if _, found := os.Lstat(filepath.Join(dir, KeyFile)); found == nil {
			return fmt.Errorf("%s: %w", dir, ErrExists)
		}
		return err
	}
	return nil
}

// writeInto writes the authority's files into a directory that has none.
func (a *Authority) writeInto(dir string) error {
	key, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	keyFile := filepath.Join(dir, KeyFile)
	if err := writeNew(keyFile, key, 0o600); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, CertificateFile), a.certPEM, 0o644); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

// WriteNode issues a certificate for a node (see [Authority.Issue]) and writes it into dir as ID.crt and ID.key, in the place of earlier
// ones: a node that runs on those takes the new ones over by itself.
func (a *Authority) WriteNode(dir string, id ID, validity time.Duration) (certFile, keyFile string, err error) {
	p, err := a.Issue(id, validity)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, id.Node+".crt"), filepath.Join(dir, id.Node+".key")
	if err := replace(keyFile, p.Key, 0o600); err != nil {
		return "", "", err
	}
	if err := replace(certFile, p.Certificate, 0o644); err != nil {
		return "", "", err
	}
	return certFile, keyFile, nil
}

// writeNew writes a file that must not be there, whole and on disk.
func writeNew(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := finish(f, data, mode); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// replace writes a file aside and renames it, so that a reader finds the old one or the new one.
func replace(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // 0600
	if err != nil {
		return err
	}
	if err := finish(f, data, mode); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func finish(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ErrExposed is wrapped when a key's file may be read by others.
var ErrExposed = errors.New("others may read this key")

// readSecret reads a file that has at most the permissions of most.
func readSecret(name string, most fs.FileMode) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&^(most|0o700) != 0 && runtime.GOOS != "windows" { // which has no such bits
		return nil, fmt.Errorf("%s: %w (mode %#o): chmod 600 %s", name, ErrExposed, mode, name)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes are no key", name, info.Size())
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n < len(data) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// maxFile bounds what is read as a key or a bundle of certificates.
const maxFile = 1 << 20
