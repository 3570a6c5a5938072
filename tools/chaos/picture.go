package main

import (
	"fmt"
	"html"
	"strings"
	"time"

	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// Of the picture, in its own units.
const (
	labels     = 88   // left of the time
	wide       = 1180 // of the time
	rowHigh    = 26
	chartHigh  = 90
	spanHigh   = 15
	bucketTime = 100 * time.Millisecond
)

// bucket is what came of the requests that were begun in one tenth of a second.
type bucket struct{ ok, refused, unknown int }

// buckets sorts tries by when they were begun; gateway "" means all.
func buckets(rec *record, ops []verdict.Op, gateway string) []bucket {
	all := make([]bucket, (rec.To-rec.From)/int64(bucketTime)+1)
	for i := range ops {
		o := &ops[i]
		at := (o.Call - rec.From) / int64(bucketTime)
		if gateway != "" && o.Gateway != gateway || at < 0 || at >= int64(len(all)) {
			continue
		}
		switch o.Outcome {
		case verdict.OK:
			all[at].ok++
		case verdict.Refused:
			all[at].refused++
		default:
			all[at].unknown++
		}
	}
	return all
}

// colours are those of the buckets. Moments in which nobody happened to ask have that of what was before them; longer ones do not.
func colours(all []bucket) []string {
	const most = 5
	fills := make([]string, len(all))
	for at := 0; at < len(all); at++ {
		end := at
		for end < len(all) && all[end] == (bucket{}) {
			end++
		}
		for i := at; i < end; i++ {
			if fills[i] = (bucket{}).colour(); at > 0 && end-at <= most {
				fills[i] = fills[at-1]
			}
		}
		if at = end; at < len(all) {
			fills[at] = all[at].colour()
		}
	}
	return fills
}

// colour goes from red, nothing succeeded, by yellow to green.
func (b bucket) colour() string {
	n := b.ok + b.refused + b.unknown
	if n == 0 {
		return "#d9dde2" // nobody asked
	}
	switch share := float64(b.ok) / float64(n); {
	case share == 1:
		return "#3fa860"
	case share >= 0.9:
		return "#9cc653"
	case share >= 0.5:
		return "#e8c33d"
	case share > 0:
		return "#e58634"
	}
	return "#cc3b36"
}

// canvas writes SVG.
type canvas struct {
	strings.Builder
	scale float64 // units a nanosecond
}

func (c *canvas) rect(x, y, w, h float64, fill, more, title string) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" %s>`, x, y, w, h, fill, more)
	if title != "" {
		fmt.Fprintf(c, `<title>%s</title>`, html.EscapeString(title))
	}
	c.WriteString("</rect>\n")
}

func (c *canvas) text(x, y float64, more, text string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, more, html.EscapeString(text))
}

func (c *canvas) line(x1, y1, x2, y2 float64, more string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`+"\n", x1, y1, x2, y2, more)
}

// picture draws the run: faults above, then each node's availability, then what the clients met in all.
func picture(rec *record, ops []verdict.Op) string {
	c := &canvas{scale: wide / float64(max(rec.To-rec.From, 1))}
	x := func(t int64) float64 { return labels + float64(min(max(t, rec.From), rec.To)-rec.From)*c.scale }

	lanes := layOut(rec.Spans, x)
	top := 0.0
	for _, l := range lanes {
		top = max(top, float64(l+1)*spanHigh)
	}
	top += 8
	rows := float64(len(rec.Nodes)) * rowHigh
	charts := top + rows + 14
	bottom := charts + 2*(chartHigh+20)
	high := bottom + 24

	for i, s := range rec.Spans {
		fill := "#b3402e"
		if !s.Violent {
			fill = "#3a6ea5"
		}
		y := float64(lanes[i]) * spanHigh
		w := max(x(s.To)-x(s.From), 2)
		c.rect(x(s.From), y+12, w, bottom-y-12, fill, `opacity="0.10"`, "")
		c.rect(x(s.From), y+12, w, 2.5, fill, "", "")
		c.text(x(s.From), y+10, `class="fault" fill="`+fill+`"`, s.What)
	}
	for _, s := range rec.Stalls {
		c.rect(x(s.From), top-4, max(x(s.To)-x(s.From), 1.5), bottom-top+4, "#444", `opacity="0.25"`, s.What)
	}
	for i, id := range rec.Nodes {
		y := top + float64(i)*rowHigh
		c.text(labels-10, y+rowHigh/2+4, `text-anchor="end"`, id)
		all := buckets(rec, ops, id)
		fills := colours(all)
		for at := 0; at < len(all); {
			end, sum := at, bucket{}
			for ; end < len(all) && fills[end] == fills[at]; end++ {
				sum.ok, sum.refused, sum.unknown = sum.ok+all[end].ok, sum.refused+all[end].refused, sum.unknown+all[end].unknown
			}
			from, to := rec.From+int64(at)*int64(bucketTime), rec.From+int64(end)*int64(bucketTime)
			c.rect(x(from), y+3, max(x(to)-x(from), 0.1), rowHigh-6, fills[at], `shape-rendering="crispEdges"`,
				fmt.Sprintf("%s, %.1f–%.1f s: %d ok, %d refused, %d unknown", id, since(rec.From, from), since(rec.From, to), sum.ok, sum.refused, sum.unknown))
			at = end
		}
		for _, s := range rec.Leads {
			if s.Nodes[0] == id {
				c.rect(x(s.From), y+rowHigh-6, max(x(s.To)-x(s.From), 2), 4, "#1f3f8f", "", s.What)
			}
		}
		for _, s := range rec.Spans { // whose fault it is
			for _, hit := range s.Nodes {
				if hit == id {
					c.rect(x(s.From), y+1.5, max(x(s.To)-x(s.From), 2), rowHigh-3, "none", `stroke="#222" stroke-width="1.2"`, s.What)
				}
			}
		}
	}
	c.chart(rec, charts, "answered", buckets(rec, ops, ""), x, func(b bucket) []int { return []int{b.ok} }, []string{"#3fa860"})
	c.chart(rec, charts+chartHigh+20, "failed tries", buckets(rec, ops, ""), x,
		func(b bucket) []int { return []int{b.refused, b.unknown} }, []string{"#e8c33d", "#cc3b36"})

	for t := time.Duration(0); t <= time.Duration(rec.To-rec.From); t += 5 * time.Second {
		at := x(rec.From + int64(t))
		length, label := 4.0, t%(10*time.Second) == 0
		if label {
			length = 7
			c.text(at, bottom+20, `text-anchor="middle"`, fmt.Sprintf("%d s", int(t.Seconds())))
		}
		c.line(at, bottom, at, bottom+length, `stroke="#555"`)
	}
	c.line(labels, bottom, labels+wide, bottom, `stroke="#555"`)
	return fmt.Sprintf(`<svg viewBox="0 0 %d %.0f" role="img" aria-label="availability of each node over time, with the faults">`+"\n%s</svg>",
		labels+wide+16, high, c.String())
}

// layOut gives each span a lane in which its name does not cover another's.
func layOut(spans []verdict.Span, x func(int64) float64) []int {
	const letter = 6.2 // about
	lanes := make([]int, len(spans))
	var ends []float64 // of each lane
	for i, s := range spans {
		from := x(s.From)
		lane := 0
		for lane < len(ends) && ends[lane] > from {
			lane++
		}
		if lane == len(ends) {
			ends = append(ends, 0)
		}
		ends[lane] = max(x(s.To), from+letter*float64(len(s.What))) + 6
		lanes[i] = lane
	}
	return lanes
}

// chart stacks counts, each column the mean of half a second, as a rate.
func (c *canvas) chart(rec *record, y float64, title string, all []bucket, x func(int64) float64, parts func(bucket) []int, fills []string) {
	const each = 5
	var columns [][]int
	most := 1
	for at := 0; at < len(all); at += each {
		sum, total := make([]int, len(fills)), 0
		for _, b := range all[at:min(at+each, len(all))] {
			for i, n := range parts(b) {
				sum[i] += n
				total += n
			}
		}
		columns = append(columns, sum)
		most = max(most, total)
	}
	perSecond := float64(time.Second) / float64(each*bucketTime)
	c.text(labels-10, y+12, `text-anchor="end"`, title)
	c.text(labels-10, y+26, `text-anchor="end" class="small"`, fmt.Sprintf("max %.0f/s", float64(most)*perSecond))
	c.rect(labels, y, wide, chartHigh, "none", `stroke="#ccc"`, "")
	for i, column := range columns {
		from, to := x(rec.From+int64(i*each)*int64(bucketTime)), x(rec.From+int64((i+1)*each)*int64(bucketTime))
		base := y + chartHigh
		for part, n := range column {
			h := float64(n) / float64(most) * (chartHigh - 4)
			if base -= h; n > 0 {
				c.rect(from, base, max(to-from, 0.1), h, fills[part], `shape-rendering="crispEdges"`, "")
			}
		}
	}
}
