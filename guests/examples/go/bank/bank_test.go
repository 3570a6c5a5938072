package bank_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/guests/examples/go/bank"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

var a, b = wasilo.ID("bank", "a"), wasilo.ID("bank", "b")

// teller calls accounts for a test.
type teller struct {
	*testing.T
	node *wasilotest.Node
}

func open(t *testing.T) teller { return teller{t, wasilotest.New(t, bank.Kind)} }

// does expects a call to answer a balance.
func (t teller) does(id wasilo.Identity, method string, in any, want int64) {
	t.Helper()
	got, err := wasilotest.Call[bank.Balance](t.node, id, method, in)
	if err != nil || got.Balance != want {
		t.Errorf("%s of %s %+v: %d, %v, want %d", method, id, in, got.Balance, err, want)
	}
}

// refuses expects a call to answer an error of the account's own.
func (t teller) refuses(id wasilo.Identity, method string, in any, code string) {
	t.Helper()
	if _, err := wasilotest.Call[bank.Balance](t.node, id, method, in); wasilo.CodeOf(err) != code {
		t.Errorf("%s of %s %+v: %v, want code %s", method, id, in, err, code)
	}
}

func (t teller) balance(id wasilo.Identity) int64 {
	t.Helper()
	got, err := wasilotest.Call[bank.Balance](t.node, id, "balance", wasilo.None{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Balance
}

func TestAccount(t *testing.T) {
	bk := open(t)
	bk.does(a, "balance", wasilo.None{}, 0)
	bk.does(a, "deposit", bank.Amount{Amount: 10}, 10)
	bk.does(a, "withdraw", bank.Amount{Amount: 4}, 6)
	bk.refuses(a, "withdraw", bank.Amount{Amount: 7}, bank.InsufficientFunds)
	for _, method := range []string{"deposit", "withdraw"} {
		bk.refuses(a, method, bank.Amount{}, bank.InvalidAmount)
		bk.refuses(a, method, bank.Amount{Amount: math.MinInt64}, bank.InvalidAmount)
	}
	bk.refuses(a, "deposit", bank.Amount{Amount: math.MaxInt64}, bank.BalanceOverflow)
	bk.does(a, "deposit", bank.Amount{Amount: math.MaxInt64 - 6}, math.MaxInt64)
	bk.refuses(a, "deposit", bank.Amount{Amount: 1}, bank.BalanceOverflow)
	bk.does(a, "withdraw", bank.Amount{Amount: math.MaxInt64}, 0)
}

func TestTransfer(t *testing.T) {
	bk := open(t)
	bk.does(a, "deposit", bank.Amount{Amount: 10}, 10)
	bk.does(a, "transfer", bank.Transfer{To: "b", Amount: 3}, 7)
	bk.does(b, "balance", wasilo.None{}, 3)
	bk.does(a, "transfer", bank.Transfer{To: "a", Amount: 7}, 7)
	bk.refuses(a, "transfer", bank.Transfer{To: "a", Amount: 8}, bank.InsufficientFunds)
	bk.refuses(a, "transfer", bank.Transfer{To: "b", Amount: 8}, bank.InsufficientFunds)
	bk.refuses(a, "transfer", bank.Transfer{To: "b"}, bank.InvalidAmount)
	bk.refuses(a, "transfer", bank.Transfer{To: "", Amount: 1}, bank.InvalidRecipient)
	bk.refuses(a, "transfer", bank.Transfer{To: "line\nbreak", Amount: 1}, bank.InvalidRecipient)
	bk.does(a, "balance", wasilo.None{}, 7)
}

func TestTransferToAFullAccountReturns(t *testing.T) {
	bk := open(t)
	bk.does(a, "deposit", bank.Amount{Amount: 10}, 10)
	bk.does(b, "deposit", bank.Amount{Amount: math.MaxInt64}, math.MaxInt64)
	bk.refuses(a, "transfer", bank.Transfer{To: "b", Amount: 3}, bank.BalanceOverflow)
	bk.does(a, "balance", wasilo.None{}, 10)
}

// What is in transit may come back, so it keeps its place.
func TestTransitCountsForOverflow(t *testing.T) {
	bk := open(t)
	bk.does(a, "deposit", bank.Amount{Amount: math.MaxInt64}, math.MaxInt64)
	bk.node.Interfere(func(wasilotest.Message) wasilotest.Fault { return wasilotest.Lose })
	transfer := wasilotest.Start[bank.Balance](bk.node, a, "transfer", bank.Transfer{To: "b", Amount: 5})
	bk.node.Run()
	bk.refuses(a, "deposit", bank.Amount{Amount: 5}, bank.BalanceOverflow)
	if _, err := transfer.Wait(); wasilo.CodeOf(err) != bank.InDoubt {
		t.Errorf("the transfer whose deposit was lost: %v", err)
	}
	bk.does(a, "deposit", bank.Amount{Amount: 5}, math.MaxInt64)
}

// At once means here that both accounts have debited before either deposit is handled.
func TestCrosswiseTransfers(t *testing.T) {
	for seed := range uint64(50) {
		bk := open(t)
		bk.does(a, "deposit", bank.Amount{Amount: 10}, 10)
		bk.does(b, "deposit", bank.Amount{Amount: 10}, 10)
		bk.node.Shuffle(seed)
		began := bk.node.Now()
		var replies []*wasilotest.Reply[bank.Balance]
		for range 5 {
			replies = append(replies,
				wasilotest.Start[bank.Balance](bk.node, a, "transfer", bank.Transfer{To: "b", Amount: 2}),
				wasilotest.Start[bank.Balance](bk.node, b, "transfer", bank.Transfer{To: "a", Amount: 2}))
		}
		for _, r := range replies {
			if _, err := r.Wait(); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if !bk.node.Now().Equal(began) {
			t.Errorf("seed %d: transfers waited for something: %v", seed, bk.node.Now().Sub(began))
		}
		bk.does(a, "balance", wasilo.None{}, 10)
		bk.does(b, "balance", wasilo.None{}, 10)
	}
}

func TestTransferWithFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  wasilotest.Fault
		code   string // of the answer
		atA    int64
		atB    int64
		logged bool
	}{
		{"refused", wasilotest.Refuse, "mailbox_full", 10, 0, false},
		{"lost", wasilotest.Lose, bank.InDoubt, 7, 0, true},
		{"reply lost", wasilotest.LoseReply, bank.InDoubt, 7, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bk := open(t)
			bk.does(a, "deposit", bank.Amount{Amount: 10}, 10)
			bk.node.Interfere(func(wasilotest.Message) wasilotest.Fault { return c.fault })
			bk.refuses(a, "transfer", bank.Transfer{To: "b", Amount: 3}, c.code)
			bk.does(a, "balance", wasilo.None{}, c.atA)
			bk.does(b, "balance", wasilo.None{}, c.atB)
			if logged := strings.Contains(strings.Join(bk.node.Logs(), "\n"), "ERROR bank/a: a transfer is in doubt"); logged != c.logged {
				t.Errorf("the doubt is logged: %v, want %v", logged, c.logged)
			}
		})
	}
}

// Whatever is lost, refused, reordered or crashes, no money is created; and if messages are refused at worst, none is
// missing either.
func TestNoMoneyIsCreated(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runBank(t, seed, seed%4 == 0) })
	}
}

func runBank(t *testing.T, seed uint64, safe bool) {
	bk := open(t)
	bk.node.Shuffle(seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	accounts := []wasilo.Identity{a, b, wasilo.ID("bank", "c")}
	var in int64
	for _, id := range accounts {
		bk.does(id, "deposit", bank.Amount{Amount: 100}, 100)
		in += 100
	}
	faults := []wasilotest.Fault{wasilotest.Deliver, wasilotest.Deliver, wasilotest.Refuse, wasilotest.Lose, wasilotest.LoseReply}
	if safe {
		faults = faults[:3]
	}
	bk.node.Interfere(func(wasilotest.Message) wasilotest.Fault { return faults[rng.IntN(len(faults))] })
	total := func() (sum int64) {
		bk.node.Run() // or money could move between two looks
		for _, id := range accounts {
			n := bk.balance(id)
			if n < 0 {
				t.Fatalf("%s has %d", id, n)
			}
			sum += n
		}
		return sum
	}
	for range 40 {
		from, to := accounts[rng.IntN(3)], accounts[rng.IntN(3)]
		wasilotest.Start[bank.Balance](bk.node, from, "transfer", bank.Transfer{To: to.ID(), Amount: 1 + rng.Int64N(60)})
		switch rng.IntN(4) {
		case 0:
			bk.node.Run()
		case 1:
			bk.node.Advance(time.Duration(rng.Int64N(int64(20 * time.Second))))
		}
		if !safe && rng.IntN(20) == 0 {
			bk.node.Run()
			bk.node.Crash(from)
		}
		if sum := total(); sum > in {
			t.Fatalf("%d of %d", sum, in)
		}
	}
	bk.node.Advance(time.Minute)
	if sum := total(); sum > in || safe && sum != in {
		t.Errorf("in the end %d of %d", sum, in)
	}
}
