// Command guest is the module that tools/chaos attacks: registers, each of which tells with every answer under which epoch it was
// given, how many turns that epoch had, and with which value it began. A history of answers can be judged by that.
package main

import "github.com/wasilo/wasilo/guests/go/wasilo"

// Register holds one value, "" at first. That of the kind register ends with its activation; that of register_h hibernates.
type Register struct {
	Value string
	Under [2]uint64 // the epoch of the last turn
	Turns uint64    // under it
	Began string    // the value before its first turn
}

// Answer is what every method answers.
type Answer struct {
	Value string    `json:"value"` // after the turn
	Epoch [2]uint64 `json:"epoch"` // generation, index
	N     uint64    `json:"n"`     // turns under that epoch, this one included
	Began string    `json:"began"` // the value with which it began
}

// Write is what write takes.
type Write struct {
	Value string `json:"value"`
}

// Swap is what cas takes.
type Swap struct {
	Old string `json:"old"`
	New string `json:"new"`
}

func (r *Register) answer(ctx *wasilo.Context, turn func()) (Answer, error) {
	e := ctx.Epoch()
	if under := [2]uint64{uint64(e.Generation), e.Index}; r.Turns == 0 || r.Under != under {
		r.Under, r.Turns, r.Began = under, 0, r.Value
	}
	r.Turns++
	turn()
	return Answer{r.Value, r.Under, r.Turns, r.Began}, nil
}

// Read tells the value. It counts its turns, and so is not declared read-only: nobody may send it twice.
func (r *Register) Read(ctx *wasilo.Context, _ wasilo.None) (Answer, error) {
	return r.answer(ctx, func() {})
}

// Write sets the value.
func (r *Register) Write(ctx *wasilo.Context, in Write) (Answer, error) {
	return r.answer(ctx, func() { r.Value = in.Value })
}

// Cas sets the value to New if it is Old. The answer's value says whether it was.
func (r *Register) Cas(ctx *wasilo.Context, in Swap) (Answer, error) {
	return r.answer(ctx, func() {
		if r.Value == in.Old {
			r.Value = in.New
		}
	})
}

func kind(name string) *wasilo.Definition {
	return wasilo.Kind(name,
		wasilo.Method("read", (*Register).Read, "Answers the value."),
		wasilo.Method("write", (*Register).Write, "Sets the value to `value`."),
		wasilo.Method("cas", (*Register).Cas, "Sets the value to `new` if it is `old`."),
	)
}

func init() {
	wasilo.Serve(
		kind("register").Doc("A value that ends with its activation."),
		kind("register_h").Doc("A value that hibernates.").Hibernates(),
	)
}

func main() {}
