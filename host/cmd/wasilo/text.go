package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// oneLine makes text from elsewhere fit for one line of a terminal: line ends become "; "; what a terminal might obey, or
// does not show, is written as escapes: control characters, and those that turn the direction of text around.
func oneLine(s string) string {
	s = strings.TrimSpace(s)
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(s, "\n", "; ") {
		if hidden(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// hidden reports whether r is no text. The two joiners are: scripts of India and emoji need them.
func hidden(r rune) bool {
	const nonJoiner, joiner = 0x200c, 0x200d
	return !unicode.IsGraphic(r) && r != nonJoiner && r != joiner
}

// actorName is KIND/ID in a table, in quotes where the ends would not be seen.
func actorName(kind, id string) string {
	if name := kind + "/" + id; strings.TrimSpace(id) == id {
		return name
	}
	return `"` + kind + "/" + id + `"`
}

// table prints rows in columns; each cell is made fit for a terminal.
type table struct {
	w      io.Writer
	indent string
	rows   [][]string
}

const (
	columnGap = 2
	// widest is how wide a column gets. A cell beyond it stands whole, and moves what follows in its own row alone.
	widest = 48
)

func newTable(w io.Writer, head ...string) *table {
	t := &table{w: w}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = oneLine(c)
	}
	t.rows = append(t.rows, cells)
}

// flush prints the rows and forgets them.
func (t *table) flush() error {
	var columns []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			if n := width(cell); n <= widest {
				columns[i] = max(columns[i], n)
			}
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(t.indent)
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", max(columns[i]-width(cell), 0)+columnGap))
			}
		}
		b.WriteByte('\n')
	}
	t.rows = nil
	_, err := io.WriteString(t.w, b.String())
	return err
}

// width is how many cells of a terminal s takes.
func width(s string) (n int) {
	for _, r := range s {
		switch {
		case r < 0x300: // most text
			n++
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf): // drawn over the character before
		case unicode.Is(wide, r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// wide are the characters that terminals draw two cells wide: of East Asia, after Markus Kuhn's wcwidth, and emoji.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x231a, Hi: 0x231b, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1},
		{Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, {Lo: 0xa960, Hi: 0xa97c, Stride: 1}, {Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe10, Hi: 0xfe19, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

// age is how long ago at was, for people; "-" for never.
func age(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}
	d := max(now.Sub(at), 0)
	switch {
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 10<<20:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n>>20, 10) + " MiB"
}
