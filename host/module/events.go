package module

import "github.com/fsnotify/fsnotify"

// fileEvents is what the catalog uses of a watcher of one directory; a test brings its own.
type fileEvents struct {
	events <-chan fsnotify.Event // closed when the watcher breaks
	errors <-chan error
	add    func(dir string) error
	remove func(dir string) error
	close  func() error
}

// openEvents starts the operating system's watcher, which fails where a limit is reached or none exists.
func openEvents() (*fileEvents, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &fileEvents{events: w.Events, errors: w.Errors, add: w.Add, remove: w.Remove, close: w.Close}, nil
}
