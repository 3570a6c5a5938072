package telemetry

import "github.com/prometheus/client_golang/prometheus"

// GatewayCounts are the connections of clients, whoever these are. Its fields are those of gateway.ConnCounts.
type GatewayCounts struct {
	Open      int    // now, those included that are about to be refused
	Max       int    // that may have a place
	Refused   uint64 // connections that found no place
	Displaced uint64 // connections without a request that were closed to make room for another
}

var (
	descHTTPConns     = desc("http_connections", "Connections of clients that are open.")
	descHTTPMax       = desc("http_connections_max", "Connections of clients that may have a place.")
	descHTTPRefused   = desc("http_connections_refused_total", "Connections of clients that found no place.")
	descHTTPDisplaced = desc("http_connections_displaced_total", "Connections of clients without a request that were closed to make room for others.")
)

func describeGateway(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{descHTTPConns, descHTTPMax, descHTTPRefused, descHTTPDisplaced} {
		ch <- d
	}
}

func (g *GatewayCounts) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descHTTPConns, float64(g.Open))
	ch <- gauge(descHTTPMax, float64(g.Max))
	ch <- counter(descHTTPRefused, g.Refused)
	ch <- counter(descHTTPDisplaced, g.Displaced)
}
