package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/serfwatch"
)

// Parsers of configuration values. Each error says what is accepted.

func parseDuration(s string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf(`%q is no time: write it like "500ms", "5s" or "2m"`, s)
	}
	if d < least {
		return 0, fmt.Errorf("%s is too short: at least %s", s, timeText(least))
	}
	if d > mostTime {
		return 0, fmt.Errorf("%s is too long: at most %s", s, timeText(mostTime))
	}
	return d, nil
}

// parseHibernate reads a time or "never", for which 0 stands too.
func parseHibernate(s string) (time.Duration, error) {
	if s == "never" || s == "0" || s == "0s" {
		return host.Never, nil
	}
	d, err := parseDuration(s, leastTime)
	if err != nil {
		err = fmt.Errorf("%w, or never", err)
	}
	return d, err
}

// timeText writes a time as people do: "10m", not "10m0s".
func timeText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// timeFlag is a flag whose value is a time.
type timeFlag struct {
	value *time.Duration
	least time.Duration
}

func (f timeFlag) String() string { return "" }

// Set implements pflag.Value.
func (f timeFlag) Set(s string) (err error) {
	*f.value, err = parseDuration(s, f.least)
	return err
}

// Type implements pflag.Value.
func (f timeFlag) Type() string { return "time" }

// countFlag is a flag whose value is a whole number.
type countFlag struct {
	value       *int
	least, most int
}

func (f countFlag) String() string { return "" }

// Set implements pflag.Value.
func (f countFlag) Set(s string) (err error) {
	*f.value, err = parseCount(s, f.least, f.most)
	return err
}

// Type implements pflag.Value.
func (f countFlag) Type() string { return "count" }

// units of sizes, the longest suffix first.
var units = []struct {
	suffix string
	bytes  int64
}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1}, {"", 1}}

func parseSize(s string, least, most int64) (int64, error) {
	number, unit := strings.ToLower(strings.TrimSpace(s)), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf(`%q is no size: write it like "64MiB", "512KiB" or "1048576"`, s)
	}
	if n *= unit; n < least || n > most {
		return 0, fmt.Errorf("%s is out of range: %s to %s", s, sizeText(least), sizeText(most))
	}
	return n, nil
}

// sizeText writes a size as the configuration takes it.
func sizeText(n int64) string {
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

func parseCount(s string, least, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", s)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("%d is out of range: %d to %d", n, least, most)
	}
	return n, nil
}

func parseMessage(s string) (int, error) {
	n, err := parseSize(s, 1<<10, 1<<30)
	return int(n), err
}

func parseTable(s string) (int, error) { return parseCount(s, 1, engine.MaxTable) }

func parseStack(s string) (int64, error) { return parseSize(s, 64<<10, 64<<20) }

func parseLogBytes(s string) (int, error) {
	n, err := parseSize(s, 1<<10, 1<<30)
	return int(n), err
}

// parseFuel reads units of fuel, 0 for "none".
func parseFuel(s string) (int64, error) {
	if s == "none" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf(`%q is no amount of fuel: a whole number of units, or "none"`, s)
	}
	if n != 0 && (n < leastFuel || n > mostFuel) {
		return 0, fmt.Errorf("%d units of fuel are out of range: %d to %d, or none", n, int64(leastFuel), int64(mostFuel))
	}
	return n, nil
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf(`%q is no level: "debug", "info", "warn" or "error"`, s)
}

func parseLogFormat(s string) (string, error) {
	if s != "text" && s != "json" {
		return "", fmt.Errorf(`%q is no format: "text" or "json"`, s)
	}
	return s, nil
}

func parseProfile(s string) (serfwatch.Profile, error) {
	if p := serfwatch.Profile(s); slices.Contains(serfwatch.Profiles(), p) {
		return p, nil
	}
	return "", fmt.Errorf("%q is no profile: %s", s, choices(serfwatch.Profiles()))
}

func parsePlacement(s string) (string, error) {
	if slices.Contains(cluster.StrategyNames(), s) {
		return s, nil
	}
	return "", fmt.Errorf("%q is no placement: %s", s, choices(cluster.StrategyNames()))
}

func parseMode(s string) (cluster.Mode, error) {
	for _, m := range []cluster.Mode{cluster.Member, cluster.Client} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%q is no mode: member or client", s)
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

// parseAddr checks that s is HOST:PORT. What the host means is for those to say who listen there.
func parseAddr(s string) (string, error) {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", fmt.Errorf(`%q is no address: write it HOST:PORT, such as "127.0.0.1:0"`, s)
	}
	return s, nil
}

// parseSeeds reads addresses of other nodes' gossip. A port may be left out.
func parseSeeds(s string) ([]string, error) {
	list, err := parseList(s)
	if err != nil {
		return nil, err
	}
	for _, seed := range list {
		_, isIP := netip.ParseAddr(strings.Trim(seed, "[]"))
		bare := isIP == nil || !strings.ContainsAny(seed, ":[] \t/")
		if _, err := parseAddr(seed); err != nil && !bare || strings.ContainsAny(seed, " \t/") {
			return nil, fmt.Errorf(`%q is no address: write it HOST:PORT, such as "n1.example:7946"`, seed)
		}
	}
	return list, nil
}

// parseList splits what stands between commas.
func parseList(s string) ([]string, error) {
	parts := strings.Split(s, ",")
	for i := range parts {
		if parts[i] = strings.TrimSpace(parts[i]); parts[i] == "" {
			return nil, fmt.Errorf("%q: it is empty, or has a comma too many", s)
		}
	}
	return parts, nil
}

// choices names the values there are: "a, b or c".
func choices[T ~string](values []T) string {
	var b strings.Builder
	for i, v := range values {
		switch {
		case i > 0 && i == len(values)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(v))
	}
	return b.String()
}

func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

// nearest returns the candidate with the fewest edits from s, "" when all are further than half of it. A key that stands
// in the wrong table is one edit away.
func nearest(s string, candidates []string) string {
	s = strings.ToLower(s)
	last := func(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
	best, least := "", max(len(s), 2)/2+1
	for _, c := range candidates {
		lower := strings.ToLower(c)
		if d := min(edits(s, lower), 1+edits(last(s), last(lower))); d < least {
			best, least = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two short ASCII words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// didYouMean ends an error about an unknown name.
func didYouMean(s string, candidates []string) string {
	if best := nearest(s, candidates); best != "" {
		return "; did you mean " + best + "?"
	}
	return "; known are " + strings.Join(candidates, ", ")
}
