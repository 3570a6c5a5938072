package module

import (
	"cmp"
	"fmt"
	"slices"
)

// ClashError refuses a file because another one serves a kind that it defines.
type ClashError struct {
	Kind  string
	File  string // name of the refused one in the directory
	Other string // name of the one that keeps the kind
}

func (e *ClashError) Error() string {
	return fmt.Sprintf("kind %q of %s is already served by %s: give it another name in one of the two, or remove one file",
		e.Kind, e.File, e.Other)
}

// claim is one file's part in the question of who serves which kind.
type claim struct {
	file   string
	serves []string // the kinds it serves so far
	wants  []string // the kinds of contents just loaded, to serve instead; empty: nothing new
}

// settle decides which of the files with new contents are refused. The kinds served so far are distinct. A refused file
// falls back to what it served, which may refuse another in turn, so that one file is refused at a time, in the order of
// how firm the other's right is: to a kind it serves and goes on serving, to one that it served before, by name. The
// answer does not depend on the order of the claims.
func settle(claims []claim) map[string]*ClashError {
	claims = slices.SortedFunc(slices.Values(claims), func(a, b claim) int { return cmp.Compare(a.file, b.file) })
	refused := make(map[string]*ClashError)
	for {
		worst, firmest := (*ClashError)(nil), 0
		owner := make(map[string]claim)
		for _, c := range claims {
			for _, kind := range c.kinds(refused) {
				o, taken := owner[kind]
				if !taken {
					owner[kind] = c
					continue
				}
				// o has the earlier name, so c keeps the kind only by the firmer right.
				loser, right := c, o.right(kind, refused)
				if r := c.right(kind, refused); r > right {
					loser, right, owner[kind] = o, r, c
				}
				if right > firmest {
					worst, firmest = &ClashError{Kind: kind, File: loser.file, Other: owner[kind].file}, right
				}
			}
		}
		if worst == nil {
			return refused
		}
		refused[worst.File] = worst
	}
}

// kinds are those that the file serves if the files in refused stay as they are.
func (c claim) kinds(refused map[string]*ClashError) []string {
	if c.stays(refused) {
		return c.serves
	}
	return c.wants
}

func (c claim) stays(refused map[string]*ClashError) bool {
	return len(c.wants) == 0 || refused[c.file] != nil
}

// right is how firmly the file holds a kind of its kinds: 3 it goes on serving it, 2 it served it before, 1 it is new.
func (c claim) right(kind string, refused map[string]*ClashError) int {
	switch {
	case c.stays(refused):
		return 3
	case slices.Contains(c.serves, kind):
		return 2
	}
	return 1
}
