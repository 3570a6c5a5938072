package serfwatch_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/wasilo/wasilo/serfwatch"
)

func Example() {
	ctx := context.Background()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	first, err := serfwatch.New(serfwatch.Config{ID: "n1", Authority: "127.0.0.1:7701", Bind: "127.0.0.1:0", Log: quiet})
	if err != nil {
		log.Fatal(err) // what is wrong with the configuration
	}
	if err := first.Start(ctx); err != nil {
		log.Fatal(err) // the port is in use
	}
	defer first.Close()
	second, err := serfwatch.New(serfwatch.Config{ID: "n2", Authority: "127.0.0.1:7702", Bind: "127.0.0.1:0",
		Join: []string{first.Addr()}, Log: quiet})
	if err != nil {
		log.Fatal(err)
	}
	if err := second.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer second.Close()

	handle, err := second.Subscribe(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer handle.Close()
	topology, err := handle.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range topology.Members() {
		fmt.Println(m.ID, m.Authority)
	}
	// Output:
	// n1 127.0.0.1:7701
	// n2 127.0.0.1:7702
}
