// Package telemetry is a node's figures in the form that Prometheus reads.
//
// Two ways lead here. The cluster layer pushes: [Telemetry] is its [cluster.Metrics], called on the way of every request,
// so recording costs a map lookup without a lock and two atomic additions, allocates nothing and never waits. What the
// node counts anyway is pulled: it gives [Telemetry.Watch] a function that is asked at each scrape and at no other time.
//
// Labels are kinds, error codes, states and outcomes, never an actor or another node: of actors there are millions, and each
// node that ever joined would stay behind in every other one's figures. Kinds past [MaxKinds] share the label "_other", which
// is no valid kind.
//
// Latencies are histograms whose bounds double from 1 µs to about 17 s.
package telemetry
