package telemetry

import "github.com/prometheus/client_golang/prometheus"

// LinkCounts is what the link to other nodes counts, over all of them together. Its fields are those of link.Stats.
type LinkCounts struct {
	Outgoing int // connections that this node made and that stand
	Incoming int // connections that others made
	InFlight int // requests of this node that await replies
	Serving  int // requests of others that have not been answered
	Streams  int // open, of either direction

	Handshakes int // connections from others that have not said who they are yet

	Connected   uint64 // connections that this node made
	Reconnected uint64 // of these, to a node that it had been connected to
	Unreached   uint64 // attempts to connect that failed
	Accepted    uint64 // connections from others that were admitted
	Refused     uint64 // connections that were not admitted, for a fault of the other end
	Crowded     uint64 // of these, the ones that made room for others before they had said who they are
	Dropped     uint64 // connections ended for a fault of the other end
	Sent        uint64 // messages to other nodes
	Overloaded  uint64 // messages of others refused for want of room
	RelayedOut  uint64 // messages and questions of this node that went through another, since it does not reach who they were for
	RelayedIn   uint64 // those to this node that came so
	PassedOn    uint64 // those of others, to others, that went through this node
	BytesIn     uint64 // read from the network, encrypted
	BytesOut    uint64 // written to it
}

// Values of the label "direction".
const (
	directionOut = "out" // this node dialled, or wrote
	directionIn  = "in"
	directionVia = "via" // neither from this node nor to it
)

var (
	descLinkConnections = desc("link_connections", "Connections to other nodes that stand, by who made them.", "direction")
	descLinkInFlight    = desc("link_requests_in_flight", "Requests to other nodes that await replies.")
	descLinkServing     = desc("link_requests_serving", "Requests of other nodes that have not been answered.")
	descLinkStreams     = desc("link_streams", "Streams to other nodes that are open, such as those that the voters' log goes over.")
	descLinkHandshakes  = desc("link_handshakes", "Connections from other nodes, or from anybody, that have not said who they are yet.")
	descLinkCrowded     = desc("link_crowded_total", "Connections ended before they had said who they are, to make room for others.")
	descLinkConnected   = desc("link_connected_total", "Connections to other nodes since the start, by who made them.", "direction")
	descLinkReconnected = desc("link_reconnected_total", "Connections made to a node that was connected before.")
	descLinkUnreached   = desc("link_unreached_total", "Attempts to connect to another node that failed.")
	descLinkRefused     = desc("link_refused_total", "Connections not admitted, for a fault of the other end.")
	descLinkDropped     = desc("link_dropped_total", "Connections ended for a fault of the other end.")
	descLinkSent        = desc("link_messages_sent_total", "Messages to other nodes.")
	descLinkOverloaded  = desc("link_overloaded_total", "Messages of other nodes refused for want of room.")
	descLinkRelayed     = desc("link_relayed_total", "Messages and questions through a third node, since two do not reach each other, by this node's part in it.", "direction")
	descLinkBytes       = desc("link_bytes_total", "Bytes read from and written to other nodes, encrypted.", "direction")
)

func describeLink(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{descLinkConnections, descLinkInFlight, descLinkServing, descLinkStreams, descLinkHandshakes, descLinkConnected, descLinkReconnected,
		descLinkUnreached, descLinkRefused, descLinkCrowded, descLinkDropped, descLinkSent, descLinkOverloaded, descLinkRelayed, descLinkBytes} {
		ch <- d
	}
}

func (l *LinkCounts) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descLinkConnections, float64(l.Outgoing), directionOut)
	ch <- gauge(descLinkConnections, float64(l.Incoming), directionIn)
	ch <- gauge(descLinkInFlight, float64(l.InFlight))
	ch <- gauge(descLinkServing, float64(l.Serving))
	ch <- gauge(descLinkStreams, float64(l.Streams))
	ch <- gauge(descLinkHandshakes, float64(l.Handshakes))
	ch <- counter(descLinkConnected, l.Connected, directionOut)
	ch <- counter(descLinkConnected, l.Accepted, directionIn)
	ch <- counter(descLinkReconnected, l.Reconnected)
	ch <- counter(descLinkUnreached, l.Unreached)
	ch <- counter(descLinkRefused, l.Refused)
	ch <- counter(descLinkCrowded, l.Crowded)
	ch <- counter(descLinkDropped, l.Dropped)
	ch <- counter(descLinkSent, l.Sent)
	ch <- counter(descLinkOverloaded, l.Overloaded)
	ch <- counter(descLinkRelayed, l.RelayedOut, directionOut)
	ch <- counter(descLinkRelayed, l.RelayedIn, directionIn)
	ch <- counter(descLinkRelayed, l.PassedOn, directionVia)
	ch <- counter(descLinkBytes, l.BytesOut, directionOut)
	ch <- counter(descLinkBytes, l.BytesIn, directionIn)
}
