package verdict

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is one thing that must not have happened.
type Violation struct {
	Check string `json:"check"`
	Actor string `json:"actor"`
	At    int64  `json:"at"` // as in [Op]
	Text  string `json:"text"`
}

// Violations are collected in any order and kept in one.
type Violations []Violation

func (v *Violations) add(check, actor string, at int64, format string, args ...any) {
	*v = append(*v, Violation{check, actor, at, fmt.Sprintf(format, args...)})
}

func (v Violations) sort() {
	slices.SortFunc(v, func(a, b Violation) int {
		if a.At != b.At {
			return int(max(-1, min(1, a.At-b.At)))
		}
		return strings.Compare(a.Check+a.Actor+a.Text, b.Check+b.Actor+b.Text)
	})
}

// ByCheck counts them.
func (v Violations) ByCheck() map[string]int {
	n := make(map[string]int)
	for i := range v {
		n[v[i].Check]++
	}
	return n
}
