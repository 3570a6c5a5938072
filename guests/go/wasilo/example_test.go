package wasilo_test

import (
	"fmt"
	"time"

	"github.com/wasilo/wasilo/guests/go/wasilo"
)

// Cart is a shopping cart.
type Cart struct {
	items   []string
	waiting []*wasilo.Deferred[Receipt]
}

// Item is the input of add.
type Item struct {
	Name string `json:"name"`
}

// Receipt is what buying answers.
type Receipt struct {
	Number string `json:"number"`
}

// Price is what the kind "shop" answers to `price`.
type Price struct {
	Cents int64 `json:"cents"`
}

func (c *Cart) Add(ctx *wasilo.Context, in Item) (wasilo.None, error) {
	if in.Name == "" {
		return wasilo.None{}, wasilo.Errorf("no_name", "an item needs a name")
	}
	c.items = append(c.items, in.Name)
	return wasilo.None{}, wasilo.After(ctx, "forget", time.Hour, wasilo.None{})
}

func (c *Cart) Forget(*wasilo.Context, wasilo.None) error {
	c.items = nil
	return nil
}

func ExampleKind() {
	kind := wasilo.Kind("cart",
		wasilo.Method("add", (*Cart).Add, "Puts an item in; after an hour without another all are forgotten."),
		wasilo.Timer("forget", (*Cart).Forget),
	).Doc("Shopping carts.")
	for _, m := range kind.Describe().Methods {
		fmt.Println(kind.Name(), m.Name, m.Params, m.Result)
	}
	// Output: cart add {name: text} {}
}

// A handler that asks one actor after another.
func ExampleCall() {
	total := func(c *Cart, ctx *wasilo.Context, _ wasilo.None) (Price, error) {
		var sum Price
		for _, item := range c.items {
			price, err := wasilo.Call[Price](ctx, wasilo.ID("shop", "main"), "price", Item{item})
			if err != nil {
				return Price{}, err
			}
			sum.Cents += price.Cents
		}
		return sum, nil
	}
	wasilo.Kind("cart", wasilo.ReadOnly("total", total))
}

// A handler that asks several shops at once and waits for the slowest only.
func ExampleStart() {
	cheapest := func(_ *Cart, ctx *wasilo.Context, in Item) (Price, error) {
		var offers []*wasilo.Future[Price]
		for _, shop := range []string{"north", "south"} {
			offers = append(offers, wasilo.Start[Price](ctx, wasilo.ID("shop", shop), "price", in))
		}
		var best Price
		for i, offer := range offers {
			price, err := offer.Await()
			if err != nil {
				return Price{}, err
			}
			if i == 0 || price.Cents < best.Cents {
				best = price
			}
		}
		return best, nil
	}
	wasilo.Kind("cart", wasilo.ReadOnly("cheapest", cheapest))
}

// A handler that does not wait: the cart takes other messages until the till has answered.
func ExampleThen() {
	buy := func(c *Cart, ctx *wasilo.Context, _ wasilo.None) (Receipt, error) {
		reply := wasilo.Defer[Receipt](ctx)
		return Receipt{}, wasilo.Then(ctx, wasilo.ID("till", "1"), "pay", c.items, func(ctx *wasilo.Context, r Receipt, err error) {
			if err != nil {
				err = reply.Fail(ctx, err)
			} else {
				c.items = nil
				err = reply.Reply(ctx, r)
			}
			if err != nil {
				ctx.Log().Error("nobody learns of the receipt", "err", err)
			}
		})
	}
	wasilo.Kind("cart", wasilo.Method("buy", buy))
}

// A handler whose callers wait for something that another message brings.
func ExampleDefer() {
	wait := func(c *Cart, ctx *wasilo.Context, _ wasilo.None) (Receipt, error) {
		c.waiting = append(c.waiting, wasilo.Defer[Receipt](ctx))
		return Receipt{}, nil // not sent
	}
	paid := func(c *Cart, ctx *wasilo.Context, in Receipt) (wasilo.None, error) {
		for _, w := range c.waiting {
			if err := w.Reply(ctx, in); err != nil {
				return wasilo.None{}, err
			}
		}
		c.waiting = nil
		return wasilo.None{}, nil
	}
	wasilo.Kind("cart", wasilo.Method("wait", wait), wasilo.Method("paid", paid))
}

// Handles call an actor without a name to mistype: what goes in and what comes out is checked when the program is built.
func ExampleHandler_Call() {
	price := wasilo.Method("price", func(*struct{}, *wasilo.Context, Item) (Price, error) { return Price{100}, nil })
	wasilo.Kind("shop", price)
	twice := func(_ *Cart, ctx *wasilo.Context, in Item) (Price, error) {
		p, err := price.Call(ctx, "main", in)
		return Price{2 * p.Cents}, err
	}
	wasilo.Kind("cart", wasilo.ReadOnly("twice", twice))
}

func ExampleDecode() {
	raw, err := wasilo.Encode(Item{"tea"})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%x\n", raw)
	item, err := wasilo.Decode[Item](raw)
	fmt.Println(item.Name, err)
	_, err = wasilo.Decode[Price](raw)
	fmt.Println(err)
	// Output:
	// a1646e616d6563746561
	// tea <nil>
	// invalid_argument: cents: missing; the type is int (byte 10)
}
