package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

func (a *app) ps() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ps [FLAGS]", Short: "List active and sleeping actors", Args: takes(0, 0),
		Long: `List the actors that are active on the node or sleep there, in order of KIND/ID: since when, idle for how long, how many messages
wait in the mailbox, how many calls to others and timers are outstanding.

An idle actor is idle, then warm, and sleeping once it was hibernated: then its state is kept, and it has no time of activation.

One page is shown; --all shows all of them, --after goes on where a page ended.`,
		Example: `  wasilo ps
  wasilo ps --kind chat --all
  wasilo ps -o json | jq -r '.actors[].id'`,
	}
	var q client.ActorsQuery
	var all bool
	cmd.Flags().StringVar(&q.Kind, "kind", "", "only actors of `KIND`")
	cmd.Flags().StringVar(&q.State, "state", "", "only "+gateway.ActorsActive+" or only "+gateway.ActorSleeping+" actors (`STATE`)")
	cmd.Flags().BoolVar(&all, "all", false, "all pages")
	q.Limit = gateway.DefaultPage
	cmd.Flags().Var(countFlag{&q.Limit, 1, gateway.MaxPage}, "limit", "`N` actors a page"+defaultsTo(gateway.DefaultPage))
	cmd.Flags().StringVar(&q.After, "after", "", "go on after `CURSOR`, the next of the page before")
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if all && !cmd.Flags().Changed("limit") {
			q.Limit = gateway.MaxPage
		}
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		var out actorPrinter = &actorTable{w: a.stdout}
		if a.output == outputJSON {
			out = &actorJSON{w: a.stdout}
		}
		for {
			page, err := c.Actors(cmd.Context(), q)
			if err != nil {
				return err
			}
			if err := out.page(page.Actors); err != nil {
				return err
			}
			if q.After = page.Next; !all || q.After == "" {
				break
			}
		}
		if err := out.end(q.After); err != nil || q.After == "" || a.output == outputJSON {
			return err
		}
		_, err = fmt.Fprintf(a.stderr, "There are more: --all, or --after %s\n", q.After)
		return err
	}
	return cmd
}

// actorPrinter prints pages as they come, so that a long list takes no memory.
type actorPrinter interface {
	page([]gateway.ActorInfo) error
	end(next string) error
}

type actorTable struct {
	w    io.Writer
	rows int
}

func (p *actorTable) page(actors []gateway.ActorInfo) error {
	var t *table
	if p.rows == 0 {
		t = newTable(p.w, "ACTOR", "STATE", "ACTIVE", "IDLE", "WAITING", "CALLS", "TIMERS")
	} else {
		t = newTable(p.w)
	}
	now := time.Now()
	for _, i := range actors {
		p.rows++
		t.row(actorName(i.Kind, i.ID), i.State, age(i.Since, now), age(i.Last, now),
			strconv.Itoa(i.Waiting), strconv.Itoa(i.Calls), strconv.Itoa(i.Timers))
	}
	return t.flush()
}

func (p *actorTable) end(string) error { return nil }

// actorJSON prints all pages as one object, as a single page of the gateway looks.
type actorJSON struct {
	w    io.Writer
	rows int
}

func (p *actorJSON) page(actors []gateway.ActorInfo) error {
	for i := range actors {
		before := ","
		if p.rows == 0 {
			before = `{"actors":[`
		}
		p.rows++
		row, err := json.Marshal(&actors[i])
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.w, "%s%s", before, row); err != nil {
			return err
		}
	}
	return nil
}

func (p *actorJSON) end(next string) error {
	text := "]}\n"
	if p.rows == 0 {
		text = `{"actors":[` + text
	}
	if next != "" {
		text = `],"next":` + strconv.Quote(next) + "}\n"
	}
	_, err := io.WriteString(p.w, text)
	return err
}
