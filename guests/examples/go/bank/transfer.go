package bank

import (
	"errors"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// A transfer takes the amount out of the balance first, sends a deposit to the other account, and answers its caller
// once the outcome is known. No turn waits for another: meanwhile both accounts handle other messages. That is why
// transfers from a to b and from b to a at once cannot deadlock, which they would if each called the other and waited.
//
// There are three outcomes. The deposit succeeded: done. It certainly was not done and never will be: the amount goes
// back, and the caller gets the reason. Or nobody knows: the deposit timed out, or the other account crashed over it.
// Then the amount does not go back. If it did, and the deposit had arrived, the money would be there twice; and the
// other account may have passed it on already, so there is no taking it back either.
//
// So a transfer in doubt may lose money. How often? A deposit that timed out in a long queue still arrives, only late.
// One that a crash took along shares the fate of everything else in that account: these accounts live in memory, and end
// with their activation. Sending it again would not mend that, since an account that starts anew has forgotten which
// deposits it had. Accounts that must lose nothing are durable, where the node commits the debit and the deposit
// together and delivers the deposit once.

// depositTime is how long a deposit may take: less than clients wait, so that they learn of a doubt.
const depositTime = 5 * time.Second

// Transfer is the input of the method.
type Transfer struct {
	To     string `json:"to"` // the name of the other account
	Amount int64  `json:"amount"`
}

// Transfer moves money to another account.
func (a *Account) Transfer(ctx *wasilo.Context, in Transfer) (Balance, error) {
	to, err := wasilo.NewIdentity(ctx.Self().Kind(), in.To)
	if err != nil {
		return Balance{}, wasilo.Errorf(InvalidRecipient, "the field `to` names no account: %v", err)
	}
	if err := a.covers(in.Amount); err != nil {
		return Balance{}, err
	}
	if to == ctx.Self() {
		return Balance{a.balance}, nil // a message to itself would do, and move nothing
	}
	reply := wasilo.Defer[Balance](ctx)
	err = deposit.Then(ctx, to.ID(), Amount{in.Amount}, func(ctx *wasilo.Context, _ Balance, err error) {
		a.settle(ctx, to, in.Amount, reply, err)
	}, wasilo.Timeout(depositTime))
	if err != nil {
		return Balance{}, err // it is answered; nothing was sent, and nothing has changed
	}
	a.balance -= in.Amount
	a.transit += in.Amount
	return Balance{}, nil // not sent: the reply is deferred
}

// settle ends a transfer. Its caller may have stopped waiting long ago: then nobody hears the answer.
func (a *Account) settle(ctx *wasilo.Context, to wasilo.Identity, amount int64, reply *wasilo.Deferred[Balance], err error) {
	a.transit -= amount
	switch {
	case err == nil:
		err = reply.Reply(ctx, Balance{a.balance})
	case notDone(err):
		a.balance += amount
		err = reply.Fail(ctx, err)
	default:
		ctx.Log().Error("a transfer is in doubt, its amount is not returned", "to", to.ID(), "amount", amount, "err", err)
		err = reply.Fail(ctx, wasilo.Errorf(InDoubt, "whether %s received %d is not known (%v); the amount is not returned", to, amount, err))
	}
	if err != nil {
		ctx.Log().Error("a transfer cannot be answered", "err", err)
	}
}

// notDone reports whether a deposit that failed with err certainly has done nothing and never will. What this list does
// not know is in doubt.
func notDone(err error) bool {
	switch wasilo.CodeOf(err) {
	case InvalidAmount, BalanceOverflow:
		return true // the other account's own refusals
	}
	var e *wasilo.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case abi.ErrInvalidArgument, abi.ErrUnknownKind, abi.ErrUnknownMethod, abi.ErrNotActive, abi.ErrDeadlock,
		abi.ErrPayloadTooLarge, abi.ErrUnauthenticated, abi.ErrDenied, abi.ErrUnsupported, abi.ErrActivationFailed:
		return true
	}
	return e.Code.Retryable() // which says that nothing was done
}
