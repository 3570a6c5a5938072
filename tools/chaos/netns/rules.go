package netns

import "strings"

// nftRules drop what arrives from some hosts, and replace what was dropped before.
func nftRules(from []int) string {
	var b strings.Builder
	b.WriteString("table ip chaos\ndelete table ip chaos\n") // made first, or there may be none to delete
	b.WriteString("table ip chaos {\n  chain arrives {\n    type filter hook input priority 0; policy accept;\n")
	for _, i := range from {
		b.WriteString("    ip saddr " + Addr(i) + " drop\n")
	}
	b.WriteString("  }\n}\n")
	return b.String()
}

// iptablesRules are the same for iptables-restore.
func iptablesRules(from []int) string {
	var b strings.Builder
	b.WriteString("*filter\n:INPUT ACCEPT [0:0]\n")
	for _, i := range from {
		b.WriteString("-A INPUT -s " + Addr(i) + " -j DROP\n")
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
