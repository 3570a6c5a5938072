package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// echoes is the smallest silo: every actor answers with what it is sent.
type echoes struct{}

func (echoes) Activate(req cluster.ActivationRequest) (cluster.Target, error) {
	return &echo{req: req}, nil
}
func (echoes) Revoke(cluster.Lease)        {}
func (echoes) Drain(context.Context) error { return nil }

type echo struct{ req cluster.ActivationRequest }

func (e *echo) Deliver(_ context.Context, env *abi.Envelope) ([]byte, error) {
	defer e.req.Observer.Terminated(e.req.Lease, "an echo lives for one message")
	if env.Method != "say" {
		return nil, abi.NewError(abi.ErrUnknownMethod, "an echo can only say")
	}
	return env.Payload, nil
}

func (e *echo) Post(env *abi.Envelope, done func([]byte, error)) error {
	payload, err := e.Deliver(context.Background(), env)
	if done != nil {
		done(payload, err)
	}
	return nil
}

// running returns the API of a started system of echoes, and what ends it.
func running() (api *cluster.API, stop func()) {
	x, stop := started()
	return x.API(), stop
}

func started() (x *cluster.Extension, stop func()) {
	self := cluster.Node{ID: "node-1", Authority: "127.0.0.1:7701"}
	sys := cluster.NewSystem(cluster.SystemConfig{})
	x, err := cluster.Install(sys, cluster.Config{
		Self: self, Topology: cluster.StaticTopology(self), Placement: echoes{}, Kinds: []cluster.Kind{{Name: "echo"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := sys.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return x, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = sys.Shutdown(ctx)
	}
}

func ExampleInstall() {
	self := cluster.Node{ID: "node-1", Authority: "127.0.0.1:7701"}
	sys := cluster.NewSystem(cluster.SystemConfig{})
	extension, err := cluster.Install(sys, cluster.Config{
		Self: self, Topology: cluster.StaticTopology(self), Placement: echoes{}, Kinds: []cluster.Kind{{Name: "echo"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := sys.Start(ctx); err != nil {
		log.Fatal(err)
	}
	status, _ := sys.Status()
	fmt.Println(status.Readiness, extension.Runtime().View().Kinds())
	fmt.Println(sys.Shutdown(ctx))

	_, err = cluster.Install(cluster.NewSystem(cluster.SystemConfig{}), cluster.Config{Self: self})
	var failed *cluster.BootstrapError
	fmt.Println(errors.As(err, &failed), failed.Kind)
	// Output:
	// ready [echo]
	// <nil>
	// true invalid configuration
}

func ExampleAPI_Request() {
	api, stop := running()
	defer stop()
	ctx := context.Background()

	id, err := cluster.NewIdentity("echo", "canyon")
	if err != nil {
		log.Fatal(err)
	}
	reply, err := api.Request(ctx, id, cluster.Message{Method: "say", Payload: []byte("hello")})
	fmt.Printf("%s %v\n", reply, err)

	_, err = api.Request(ctx, id, cluster.Message{Method: "sing"})
	fmt.Println(errors.Is(err, abi.ErrUnknownMethod), err)

	nobody, _ := cluster.ParseIdentity("nobody/x")
	_, err = api.Request(ctx, nobody, cluster.Message{Method: "say"})
	fmt.Println(errors.Is(err, cluster.ErrKindNotRegistered), err)
	// Output:
	// hello <nil>
	// true request "echo/canyon" sing: unknown_method: an echo can only say
	// true resolve "nobody/x": the kind is not registered: there is no "nobody" among 1 (echo)
}

func ExampleAPI_RequestFuture() {
	api, stop := running()
	defer stop()
	ctx := context.Background()

	var futures []*cluster.Future
	for _, name := range []string{"echo/a", "echo/b"} {
		id, _ := cluster.ParseIdentity(name)
		f, err := api.RequestFuture(ctx, id, cluster.Message{Method: "say", Payload: []byte(name)})
		if err != nil {
			log.Fatal(err)
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		reply, err := f.Wait(ctx)
		fmt.Printf("%s %v\n", reply, err)
	}
	// Output:
	// echo/a <nil>
	// echo/b <nil>
}

func ExampleAPI_Get() {
	api, stop := running()
	defer stop()

	id, _ := cluster.ParseIdentity("echo/grand canyon")
	ref, err := api.Get(context.Background(), id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ref.PID())
	fmt.Println(ref)
	// Output:
	// 127.0.0.1:7701::echo/grand canyon
	// wasilo.tcp://cluster@127.0.0.1:7701/echo/grand%20canyon
}

func ExampleEventStream_Subscribe() {
	x, stop := started()
	events := x.Events().Subscribe(0)
	id, _ := cluster.ParseIdentity("echo/a")
	if _, err := x.API().Request(context.Background(), id, cluster.Message{Method: "say"}); err != nil {
		log.Fatal(err)
	}
	stop()
	for {
		ev, err := events.Next(context.Background())
		if err != nil {
			break
		}
		fmt.Println(ev.Seq, ev.Type)
	}
	// Output:
	// 3 ActivationTerminated
	// 4 ShutdownBegun
	// 5 ShutdownCompleted
}
