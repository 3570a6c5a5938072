// Package bank keeps accounts: every bank/NAME is one, with a balance in the smallest unit of some currency.
//
// It shows what an actor is good at, rules over a state that many change at once, without a lock: an account handles one
// message at a time, so "is there enough, then take it" needs nothing else. And it shows what is hard between actors,
// moving something from one to another so that it is never there twice: see transfer.go.
//
// Accounts are volatile here, their money gone when a node stops. What holds nevertheless is that no money is ever
// created: all balances together never exceed what was deposited less what was withdrawn.
package bank

import (
	"math"
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// The codes of the errors that an account answers. None of them has changed anything.
const (
	InsufficientFunds = "insufficient_funds"
	InvalidAmount     = "invalid_amount"    // amounts are above 0
	BalanceOverflow   = "balance_overflow"  // no balance exceeds an int64
	TooManyDeposits   = "too_many_deposits" // see receipts
	InvalidRecipient  = "invalid_recipient" // not the name of an account
)

// Account is one account.
type Account struct {
	balance int64
	// transit is what left the balance for transfers whose end is not known. Some of it may come back, so balance and
	// transit together stay within an int64.
	transit  int64
	doubtful map[string]*transfer // to be sent again, by key
	receipts receipts
}

// Amount is what deposit and withdraw take.
type Amount struct {
	Amount int64 `json:"amount"`
}

// Balance is what every method answers: the balance after it.
type Balance struct {
	Balance int64 `json:"balance"`
}

// Deposit puts money in. A deposit with an idempotency key may be repeated with the same key, by the same caller, within
// twenty minutes: it is done once, and every repetition gets the answer of the first.
func (a *Account) Deposit(ctx *wasilo.Context, in Amount) (Balance, error) {
	if in.Amount <= 0 {
		return Balance{}, wasilo.Errorf(InvalidAmount, "the amount is %d, and must be above 0", in.Amount)
	}
	r := receipt{from: ctx.Caller(), key: ctx.IdempotencyKey(), amount: in.Amount}
	err, repeated := a.receipts.find(r, ctx.Now())
	if !repeated {
		if in.Amount > math.MaxInt64-a.balance-a.transit {
			err = wasilo.Errorf(BalanceOverflow, "the account cannot hold %d more", in.Amount)
		}
		if full := a.receipts.add(r, ctx.Now(), err); full != nil {
			return Balance{}, full
		}
		if err == nil {
			a.balance += in.Amount
		}
	}
	return Balance{a.balance}, err
}

// Withdraw takes money out.
func (a *Account) Withdraw(_ *wasilo.Context, in Amount) (Balance, error) {
	if err := a.check(in.Amount); err != nil {
		return Balance{}, err
	}
	a.balance -= in.Amount
	return Balance{a.balance}, nil
}

// Balance tells the balance. What is on its way to another account is not in it.
func (a *Account) Balance(*wasilo.Context, wasilo.None) (Balance, error) {
	return Balance{a.balance}, nil
}

// check says why the amount cannot leave the account, nil if it can.
func (a *Account) check(amount int64) error {
	if amount <= 0 {
		return wasilo.Errorf(InvalidAmount, "the amount is %d, and must be above 0", amount)
	}
	if amount > a.balance {
		return wasilo.Errorf(InsufficientFunds, "the balance is %d, %d less than the amount", a.balance, amount-a.balance)
	}
	return nil
}

// deposit is what a transfer sends to the other account.
var deposit = wasilo.Method("deposit", (*Account).Deposit, "Puts `amount` in and answers the balance.")

// resend is the timer of transfers whose deposit may have been lost; the payload is the transfer's key.
var resend = wasilo.Timer("resend", (*Account).resend)

// Kind is the kind "bank".
var Kind = wasilo.Kind("bank",
	deposit,
	wasilo.Method("withdraw", (*Account).Withdraw, "Takes `amount` out and answers the balance."),
	wasilo.Method("transfer", (*Account).Transfer, "Moves `amount` to the account `to` and answers the balance here."),
	wasilo.ReadOnly("balance", (*Account).Balance, "Answers the balance."),
	resend,
).Doc("Accounts with transfers between them that never create money.")

// A receipt names one deposit. Only those with a key can be recognised again.
type receipt struct {
	from   wasilo.Identity // zero: a client from outside
	key    string
	amount int64
}

// receipts remembers how keyed deposits ended, refusals included: a refusal is final, even if the refused message itself
// comes a second time. It is bounded in time and number; when it is full of receipts that must not be forgotten yet,
// keyed deposits are refused.
type receipts struct {
	ends  map[receipt]error
	order []dated
}

type dated struct {
	receipt
	at time.Time
}

const (
	keepReceipts = 20 * time.Minute // twice as long as transfers are sent again
	maxReceipts  = 10_000
)

// find returns how a deposit ended that was received before.
func (rs *receipts) find(r receipt, now time.Time) (end error, ok bool) {
	for len(rs.order) > 0 && now.Sub(rs.order[0].at) > keepReceipts {
		delete(rs.ends, rs.order[0].receipt)
		rs.order = rs.order[1:]
	}
	end, ok = rs.ends[r]
	return end, ok
}

// add records how a deposit ends. An error says that it must be refused for want of room.
func (rs *receipts) add(r receipt, now time.Time, end error) error {
	if r.key == "" {
		return nil
	}
	if len(rs.order) >= maxReceipts {
		return wasilo.Errorf(TooManyDeposits, "more than %d deposits with a key in %v", maxReceipts, keepReceipts)
	}
	if rs.ends == nil {
		rs.ends = make(map[receipt]error)
	}
	rs.ends[r] = end
	rs.order = append(rs.order, dated{r, now})
	return nil
}
