package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": func(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) },
	"share": func(part, of int) string {
		if of == 0 {
			return "–"
		}
		return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(of))
	},
	"date":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"codes": codes,
	"join":  func(all []string) string { return strings.Join(all, ", ") },
}).Parse(reportText))

// report is a run as one page that needs nothing beside it.
func report(rec *record, ops []verdict.Op, s *summary) ([]byte, error) {
	var b bytes.Buffer
	type violation struct {
		verdict.Violation
		After seconds
	}
	var shown []violation
	for _, v := range s.Violations {
		shown = append(shown, violation{v, since(rec.From, v.At)})
	}
	err := reportPage.Execute(&b, struct {
		*summary
		Record     *record
		Picture    template.HTML
		Violations []violation
	}{s, rec, template.HTML(picture(rec, ops)), shown}) // made of numbers, and of names that are escaped there
	return b.Bytes(), err
}

// codes are counts in words, the greatest first.
func codes(n counts) string {
	names := slices.Sorted(maps.Keys(n))
	slices.SortStableFunc(names, func(a, b string) int { return n[b] - n[a] })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, n[name])
	}
	if len(names) == 0 {
		return "–"
	}
	return strings.Join(names, ", ")
}
