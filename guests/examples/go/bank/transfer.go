package bank

import (
	"errors"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// # How money moves
//
// A transfer takes the amount out of the balance first, sends a deposit to the other account, and answers its caller when
// the outcome is known. Nobody waits inside a turn: between the two, both accounts go on with other messages. That is why
// transfers from a to b and from b to a at once cannot deadlock.
//
// The outcome may be unknown: the deposit timed out, or the other account crashed while it answered. The amount may then
// have arrived or not. Giving it back would create money if it had; forgetting it would destroy money if it had not. So
// the account does neither. It keeps the amount apart and sends the same deposit again, under the same key, which
// the other account does once at most and answers every time (see receipts). Any success ends the transfer.
//
// A refusal ends it too, and returns the money, only if it rules out that any attempt arrived or still will: either the
// refusal is one that the other account remembers, or this was the only attempt. "The mailbox is full" says something of
// the second attempt, and nothing of the first.
//
// After ten minutes without an answer the account gives up: the amount stays apart, and the log says so. Money that may
// be missing once is better than money that may be there twice.
//
// What is left to the client: a transfer that times out for it may yet succeed, so it should look at the balances before
// it tries again. Only deposits understand keys.

// A transfer on its way.
type transfer struct {
	key      string
	to       wasilo.Identity
	amount   int64
	reply    *wasilo.Deferred[Balance]
	began    time.Time
	attempts int
	doubt    bool // an attempt may have arrived, or may still
}

const (
	firstPause = time.Second // doubles with each attempt
	mostPause  = time.Minute
	giveUp     = 10 * time.Minute
)

// Transfer is the input of the method.
type Transfer struct {
	To     string `json:"to"` // the name of the other account
	Amount int64  `json:"amount"`
}

// Transfer moves money to another account.
func (a *Account) Transfer(ctx *wasilo.Context, in Transfer) (Balance, error) {
	to, err := wasilo.NewIdentity("bank", in.To)
	if err != nil {
		return Balance{}, wasilo.Errorf(InvalidRecipient, "the field `to` names no account: %v", err)
	}
	if err := a.check(in.Amount); err != nil {
		return Balance{}, err
	}
	if to == ctx.Self() {
		return Balance{a.balance}, nil
	}
	t := &transfer{to: to, amount: in.Amount, began: ctx.Now(),
		// Random, since it must not come again when this account has forgotten everything.
		key: fmt.Sprintf("%016x%016x", ctx.Rand().Uint64(), ctx.Rand().Uint64())}
	if err := a.send(ctx, t); err != nil {
		return Balance{}, err // nothing has been changed
	}
	a.balance -= t.amount
	a.transit += t.amount
	t.reply = wasilo.Defer[Balance](ctx)
	return Balance{}, nil
}

func (a *Account) send(ctx *wasilo.Context, t *transfer) error {
	t.attempts++
	return deposit.Then(ctx, t.to.ID(), Amount{t.amount}, func(ctx *wasilo.Context, _ Balance, err error) {
		a.settle(ctx, t, err)
	}, wasilo.IdempotencyKey(t.key))
}

// settle handles the outcome of one attempt.
func (a *Account) settle(ctx *wasilo.Context, t *transfer, err error) {
	switch {
	case err == nil:
		a.transit -= t.amount
		t.answer(ctx, a.balance, nil)
	case final(err) || !t.doubt && notDone(err):
		a.transit -= t.amount
		a.balance += t.amount
		t.answer(ctx, a.balance, err)
	default:
		t.doubt = t.doubt || !notDone(err)
		a.later(ctx, t, err)
	}
}

// later has the deposit sent again after a pause, or gives up.
func (a *Account) later(ctx *wasilo.Context, t *transfer, err error) {
	log := ctx.Log().With("to", t.to.ID(), "amount", t.amount, "attempts", t.attempts, "last", err)
	if ctx.Now().Sub(t.began) >= giveUp {
		log.Error("a transfer is given up in doubt; its amount stays out of the balance")
		t.answer(ctx, a.balance, err)
		return
	}
	pause := min(firstPause<<min(t.attempts-1, 10), mostPause)
	if e := wasilo.After(ctx, "resend:"+t.key, pause, t.key); e != nil {
		log.Error("a transfer in doubt cannot be sent again; its amount stays out of the balance", "err", e)
		return
	}
	if a.doubtful == nil {
		a.doubtful = make(map[string]*transfer)
	}
	a.doubtful[t.key] = t
	log.Warn("a transfer is in doubt; the deposit will be sent again", "pause", pause)
}

func (a *Account) resend(ctx *wasilo.Context, key string) error {
	t := a.doubtful[key]
	delete(a.doubtful, key)
	if t == nil {
		return nil
	}
	if err := a.send(ctx, t); err != nil {
		a.later(ctx, t, err)
	}
	return nil
}

// answer tells the caller, who may have stopped waiting long ago: then nobody hears it.
func (t *transfer) answer(ctx *wasilo.Context, balance int64, failure error) {
	var err error
	if failure != nil {
		err = t.reply.Fail(ctx, failure)
	} else {
		err = t.reply.Reply(ctx, Balance{balance})
	}
	if err != nil {
		ctx.Log().Error("a transfer cannot be answered", "err", err)
	}
}

// final reports whether err is a refusal that the other account gives to every attempt.
func final(err error) bool {
	switch wasilo.CodeOf(err) {
	case InvalidAmount, BalanceOverflow:
		return true
	}
	return false
}

// notDone reports whether err says that this attempt, at least, has done nothing and will not. Everything that this
// list does not know is doubtful.
func notDone(err error) bool {
	if wasilo.CodeOf(err) == TooManyDeposits {
		return true
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
	return e.Code.Retryable()
}
