package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// FileStatus is a [StatusStore] in a file, which outlives the process: by it a node that could not start says why to the next run and to
// `wasilo status`. A status is replaced as a whole: after a crash or a power failure the file has the one before or the one
// after. It may be used from any goroutine; of two processes that write at once one has the last word.
//
// Whatever else is found at its place, damaged, foreign or of a later version, is an error that wraps [ErrStatusFile], and is never
// taken for "no status": an operator may have disabled the node in there.
type FileStatus struct {
	Path string // its directory must exist
}

var _ StatusStore = FileStatus{}

// ErrStatusFile is wrapped by errors of a file that is there but holds no status.
var ErrStatusFile = errors.New("it is no status of a wasilo node; look at it, and if nothing in it is needed, clear it: `wasilo status clear`")

// statusFormat is the first field of the file, so that nothing else reads as a status.
const statusFormat = "wasilo cluster status 1"

// statusRecord is the file, as JSON.
type statusRecord struct {
	Format    string    `json:"format"`
	Readiness Readiness `json:"readiness"`
	Kind      string    `json:"kind,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}

// maxStatusFile and maxReason bound what is read, and how much of a reason is kept, in bytes.
const (
	maxStatusFile = 64 << 10
	maxReason     = 4 << 10
)

// Load returns the status that was saved last, the zero Status if there is no file.
func (s FileStatus) Load() (Status, error) {
	f, err := os.Open(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, nil
	}
	if err != nil {
		return Status{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStatusFile+1))
	if err != nil {
		return Status{}, err
	}
	st, err := parseStatus(text)
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w: %w", s.Path, err, ErrStatusFile)
	}
	return st, nil
}

func parseStatus(text []byte) (Status, error) {
	if len(text) > maxStatusFile {
		return Status{}, fmt.Errorf("it has more than %d bytes", maxStatusFile)
	}
	var r statusRecord
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Status{}, fmt.Errorf("it cannot be read: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Status{}, errors.New("something follows the status")
	}
	if r.Format != statusFormat {
		return Status{}, fmt.Errorf("its format is %.60q, not %q", r.Format, statusFormat)
	}
	switch r.Readiness {
	case ReadinessReady, ReadinessDisabled, ReadinessError:
		return Status{Readiness: r.Readiness, Kind: BootstrapErrorKind(r.Kind), Reason: r.Reason}, nil
	}
	return Status{}, fmt.Errorf("its readiness %.60q is none", r.Readiness)
}

// Save replaces the status, or removes the file for the zero Status. It returns once the disk has it.
func (s FileStatus) Save(st Status) error {
	dir := filepath.Dir(s.Path)
	if st == (Status{}) {
		if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDir(dir)
	}
	reason := st.Reason
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + " …"
	}
	text, err := json.MarshalIndent(statusRecord{statusFormat, st.Readiness, string(st.Kind), reason}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(s.Path)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.Path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a renaming last. Windows cannot, and does by itself.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
