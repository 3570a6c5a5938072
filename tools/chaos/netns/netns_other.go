//go:build !linux

package netns

// Missing says that this is not Linux.
func Missing() error {
	return &MissingError{What: []string{"Linux: other systems have no network namespaces"}}
}

// Enter does nothing here.
func Enter() {}
