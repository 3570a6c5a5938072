// Package bank keeps accounts: every bank/NAME is one, with a balance in the smallest unit of some currency.
//
// It shows what an actor is good at, rules over a state that many change at once: an account handles one message at a
// time, so "is there enough, then take it" needs no lock and no transaction. And it shows what is hard between actors,
// moving something from one to another without its ever being there twice: see transfer.go.
package bank

import (
	"math"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// The codes of the errors that an account answers. But for InDoubt, nothing has changed then.
const (
	InsufficientFunds = "insufficient_funds"
	InvalidAmount     = "invalid_amount"    // amounts are above 0
	InvalidRecipient  = "invalid_recipient" // not the name of an account
	BalanceOverflow   = "balance_overflow"  // no balance exceeds an int64
	InDoubt           = "in_doubt"          // a transfer left, and whether it arrived is not known
)

// Account is one account.
type Account struct {
	balance int64
	// transit is what left the balance by transfers without an outcome. It may come back, so balance and transit
	// together stay within an int64.
	transit int64
}

// Amount is what deposit and withdraw take.
type Amount struct {
	Amount int64 `json:"amount"`
}

// Balance is what every method answers: the balance after it.
type Balance struct {
	Balance int64 `json:"balance"`
}

// Deposit puts money in.
func (a *Account) Deposit(_ *wasilo.Context, in Amount) (Balance, error) {
	if in.Amount <= 0 {
		return Balance{}, wasilo.Errorf(InvalidAmount, "the amount is %d, and must be above 0", in.Amount)
	}
	if in.Amount > math.MaxInt64-a.balance-a.transit {
		return Balance{}, wasilo.Errorf(BalanceOverflow, "the account cannot hold %d more", in.Amount)
	}
	a.balance += in.Amount
	return Balance{a.balance}, nil
}

// Withdraw takes money out.
func (a *Account) Withdraw(_ *wasilo.Context, in Amount) (Balance, error) {
	if err := a.covers(in.Amount); err != nil {
		return Balance{}, err
	}
	a.balance -= in.Amount
	return Balance{a.balance}, nil
}

// Balance tells the balance. What is on its way to another account is not in it.
func (a *Account) Balance(*wasilo.Context, wasilo.None) (Balance, error) {
	return Balance{a.balance}, nil
}

// covers says why the amount cannot leave the account, nil if it can.
func (a *Account) covers(amount int64) error {
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

// Kind is the kind "bank".
var Kind = wasilo.Kind("bank",
	deposit,
	wasilo.Method("withdraw", (*Account).Withdraw, "Takes `amount` out and answers the balance."),
	wasilo.Method("transfer", (*Account).Transfer, "Moves `amount` to the account `to` and answers the balance here."),
	wasilo.ReadOnly("balance", (*Account).Balance, "Answers the balance."),
).Doc("Accounts, and transfers between them that never create money.").Hibernates()
