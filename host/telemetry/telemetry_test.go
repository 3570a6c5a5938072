package telemetry

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

func identity(t testing.TB, kind string) cluster.Identity {
	t.Helper()
	id, err := abi.NewIdentity(kind, "secret-identity")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestB4_3_GaugesOfLeasesAndActors(t *testing.T) {
	tel := New()
	tel.SetActorCount(7)
	tel.SetLeases(9)
	wants(t, scrape(t, tel), "wasilo_actors 7", "wasilo_leases 9")
	tel.SetActorCount(0)
	tel.SetLeases(0)
	wants(t, scrape(t, tel), "wasilo_actors 0", "wasilo_leases 0")
}

func TestB4_5_LatenciesByKind(t *testing.T) {
	tel := New()
	counter := identity(t, "counter")
	tel.RecordRequestLatency(counter, 500*time.Nanosecond)
	tel.RecordRequestLatency(counter, 1500*time.Nanosecond)
	tel.RecordRequestLatency(counter, time.Minute)
	tel.RecordResolveLatency(identity(t, "chat"), 3*time.Millisecond)
	text := scrape(t, tel)
	wants(t, text,
		`wasilo_request_duration_seconds_bucket{kind="counter",le="1.024e-06"} 1`,
		`wasilo_request_duration_seconds_bucket{kind="counter",le="2.048e-06"} 2`,
		`wasilo_request_duration_seconds_bucket{kind="counter",le="17.179869184"} 2`,
		`wasilo_request_duration_seconds_bucket{kind="counter",le="+Inf"} 3`,
		`wasilo_request_duration_seconds_sum{kind="counter"} 60.000002`,
		`wasilo_request_duration_seconds_count{kind="counter"} 3`,
		`wasilo_resolve_duration_seconds_bucket{kind="chat",le="0.002097152"} 0`,
		`wasilo_resolve_duration_seconds_bucket{kind="chat",le="0.004194304"} 1`)
	if strings.Contains(text, "secret-identity") {
		t.Error("an identity is a label")
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
}

func TestB4_2_RetriesByOutcome(t *testing.T) {
	tel := New()
	counter := identity(t, "counter")
	tel.RecordRetry(counter, 3, cluster.RetrySucceeded)
	tel.RecordRetry(counter, 5, cluster.RetryTimedOut)
	tel.RecordRetry(counter, 2, cluster.RetryFailed)
	tel.RecordRetry(counter, 0, cluster.RetryOutcome(200))
	tel.RecordBlockList("n2")
	wants(t, scrape(t, tel),
		`wasilo_retry_attempts_total{kind="counter"} 7`,
		`wasilo_retried_requests_total{kind="counter",outcome="succeeded"} 1`,
		`wasilo_retried_requests_total{kind="counter",outcome="timed_out"} 1`,
		`wasilo_retried_requests_total{kind="counter",outcome="failed"} 1`,
		`wasilo_retried_requests_total{kind="counter",outcome="unknown"} 1`,
		`wasilo_block_list_applied_total 1`)
}

// Actors that moved here wake on a node that has hibernated none.
func TestWakesOfWhatMovedHere(t *testing.T) {
	tel := New()
	tel.Watch(func() Snapshot { return Snapshot{Kinds: []KindCounts{{Kind: "chat", Wakes: 3}}} })
	wants(t, scrape(t, tel), `wasilo_wakes_total{kind="chat",outcome="ok"} 3`, `wasilo_hibernations_total{kind="chat",outcome="ok"} 0`)
}

func TestWhatTheNodeCounts(t *testing.T) {
	tel := New()
	tel.Watch(func() Snapshot {
		return Snapshot{Version: "v1", Bytes: 4096, Evictions: 2, Waiting: 1, Modules: map[string]int{"loaded": 3},
			Memory:  &MemoryCounts{Budget: 100, Parts: map[string]int64{"pages": 10, "heap": 20}, Pressure: 0.5, Refused: 3},
			Gateway: &GatewayCounts{Open: 8, Max: 9, Refused: 10, Displaced: 11},
			Kinds: []KindCounts{{Kind: "counter", Turns: 10, Inline: 9, Fuel: 123, Traps: 1, Limits: 2, Deadlocks: 3, MailboxFull: 4, Expired: 5, StartFailures: 6,
				HeldBack: 7, Backoff: true}, {Kind: "well"}}}
	})
	wants(t, scrape(t, tel), "wasilo_activation_bytes 4096", "wasilo_evictions_total 2", "wasilo_waiting_actors 1",
		`wasilo_module_files{state="loaded"} 3`,
		`wasilo_memory_bytes{part="pages"} 10`, `wasilo_memory_bytes{part="heap"} 20`, "wasilo_memory_budget_bytes 100", "wasilo_memory_pressure 0.5",
		"wasilo_memory_growth_refused_total 3",
		"wasilo_http_connections 8", "wasilo_http_connections_max 9", "wasilo_http_connections_refused_total 10",
		"wasilo_http_connections_displaced_total 11",
		`wasilo_turns_total{kind="counter"} 10`, `wasilo_turns_inline_total{kind="counter"} 9`, `wasilo_fuel_total{kind="counter"} 123`,
		`wasilo_actor_errors_total{code="trap",kind="counter"} 1`, `wasilo_actor_errors_total{code="limit_exceeded",kind="counter"} 2`,
		`wasilo_actor_errors_total{code="deadlock",kind="counter"} 3`, `wasilo_actor_errors_total{code="mailbox_full",kind="counter"} 4`,
		`wasilo_actor_errors_total{code="timeout",kind="counter"} 5`, `wasilo_actor_errors_total{code="activation_failed",kind="counter"} 6`,
		`wasilo_actor_errors_total{code="overloaded",kind="counter"} 7`, `wasilo_kind_backoff{kind="counter"} 1`,
		`wasilo_kind_backoff{kind="well"} 0`)
}

func TestMembersAndLink(t *testing.T) {
	tel := New()
	if text := scrape(t, tel); strings.Contains(text, "wasilo_link") || strings.Contains(text, "wasilo_cluster") {
		t.Error("figures of a cluster, without one")
	}
	tel.Watch(func() Snapshot {
		return Snapshot{Members: map[string]int{"alive": 2, "failed": 1, "left": 0},
			Link: &LinkCounts{Outgoing: 1, Incoming: 2, InFlight: 3, Serving: 4, Streams: 15, Handshakes: 18, Connected: 5, Reconnected: 6, Unreached: 7, Accepted: 8,
				Refused: 9, Crowded: 19, Dropped: 10, Sent: 11, Overloaded: 12, BytesIn: 13, BytesOut: 14,
				RelayedOut: 15, RelayedIn: 16, PassedOn: 17}}
	})
	wants(t, scrape(t, tel),
		`wasilo_cluster_members{state="alive"} 2`, `wasilo_cluster_members{state="failed"} 1`, `wasilo_cluster_members{state="left"} 0`,
		`wasilo_link_connections{direction="out"} 1`, `wasilo_link_connections{direction="in"} 2`,
		`wasilo_link_requests_in_flight 3`, `wasilo_link_requests_serving 4`, `wasilo_link_streams 15`, `wasilo_link_handshakes 18`, `wasilo_link_crowded_total 19`,
		`wasilo_link_connected_total{direction="out"} 5`, `wasilo_link_connected_total{direction="in"} 8`,
		`wasilo_link_reconnected_total 6`, `wasilo_link_unreached_total 7`, `wasilo_link_refused_total 9`, `wasilo_link_dropped_total 10`,
		`wasilo_link_messages_sent_total 11`, `wasilo_link_overloaded_total 12`,
		`wasilo_link_relayed_total{direction="out"} 15`, `wasilo_link_relayed_total{direction="in"} 16`, `wasilo_link_relayed_total{direction="via"} 17`,
		`wasilo_link_bytes_total{direction="out"} 14`, `wasilo_link_bytes_total{direction="in"} 13`)
}

func TestSessionAndVoters(t *testing.T) {
	tel := New()
	tel.Watch(func() Snapshot { return Snapshot{} })
	if text := scrape(t, tel); strings.Contains(text, "wasilo_session") || strings.Contains(text, "wasilo_voter") || strings.Contains(text, "wasilo_moves") {
		t.Error("figures of voters, without any")
	}
	quorum := QuorumCounts{Left: 2500 * time.Millisecond, Index: 17, Generation: 2, Partitions: 341, Moving: 1, Unrenewed: 3, Lost: 4,
		Out: MoveCounts{Moves: 5, Actors: 6, Bytes: 7}, In: MoveCounts{Moves: 8, Actors: 9, Bytes: 10}}
	tel.Watch(func() Snapshot { return Snapshot{Quorum: &quorum} })
	text := scrape(t, tel)
	wants(t, text, "wasilo_session_live 1", "wasilo_session_left_seconds 2.5", "wasilo_log_index 17", "wasilo_log_generation 2",
		"wasilo_partitions_owned 341", "wasilo_moves_under_way 1", "wasilo_session_unrenewed_total 3", "wasilo_sessions_lost_total 4",
		`wasilo_moves_total{direction="out"} 5`, `wasilo_moved_actors_total{direction="out"} 6`, `wasilo_moved_bytes_total{direction="out"} 7`,
		`wasilo_moves_total{direction="in"} 8`, `wasilo_moved_actors_total{direction="in"} 9`, `wasilo_moved_bytes_total{direction="in"} 10`)
	if strings.Contains(text, "wasilo_voter") {
		t.Error("figures of a voter, without one")
	}
	quorum.Left = -time.Second
	quorum.Voter = &VoterCounts{Leads: true, Votes: true, Term: 3, Last: 20, Applied: 19, Proposed: 11, Refused: 12, Unknown: 13, Entries: 9, Took: 450 * time.Millisecond}
	wants(t, scrape(t, tel), "wasilo_session_live 0", "wasilo_session_left_seconds 0", "wasilo_voter_leads 1", "wasilo_voter_votes 1", "wasilo_voter_term 3",
		"wasilo_voter_last_index 20", "wasilo_voter_applied_index 19", `wasilo_voter_proposals_total{outcome="proposed"} 11`,
		`wasilo_voter_proposals_total{outcome="refused"} 12`, `wasilo_voter_proposals_total{outcome="unknown"} 13`,
		"wasilo_voter_entries_total 9", "wasilo_voter_entries_seconds_total 0.45")
}

func TestKindsAreBounded(t *testing.T) {
	tel := New()
	var counts []KindCounts
	for i := range MaxKinds + 3 {
		kind := fmt.Sprintf("k%d", i)
		tel.RecordRequestLatency(identity(t, kind), time.Second)
		counts = append(counts, KindCounts{Kind: kind, Turns: 1})
	}
	tel.Watch(func() Snapshot { return Snapshot{Kinds: counts} })
	text := scrape(t, tel)
	wants(t, text, `wasilo_request_duration_seconds_count{kind="_other"} 3`, `wasilo_turns_total{kind="_other"} 3`)
	if n := strings.Count(text, "wasilo_turns_total{"); n != MaxKinds+1 {
		t.Errorf("%d labels", n)
	}
	if abi.CheckKind(otherKind) == nil {
		t.Error("a kind may have that name")
	}
}

func TestRecordingFromManyGoroutines(t *testing.T) {
	tel := New()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				tel.RecordRequestLatency(identity(t, fmt.Sprintf("k%d", (i+g)%16)), time.Duration(i)*time.Microsecond)
				if i%250 == 0 {
					scrape(t, tel)
				}
			}
		})
	}
	wg.Wait()
	total := uint64(0)
	for _, k := range *tel.kinds.Load() {
		for i := range k.requests.counts {
			total += k.requests.counts[i].Load()
		}
	}
	if total != 8000 {
		t.Errorf("%d recorded", total)
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	tel := New()
	id := identity(t, "counter")
	if n := testing.AllocsPerRun(100, func() { tel.RecordRequestLatency(id, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecordRequestLatency(b *testing.B) {
	tel := New()
	id := identity(b, "counter")
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			tel.RecordRequestLatency(id, 1234*time.Nanosecond)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				tel.RecordRequestLatency(id, 1234*time.Nanosecond)
			}
		})
	})
}
