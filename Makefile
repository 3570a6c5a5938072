# wasilo. `make` lists what there is to do. Everything needs Go alone, except where a line says otherwise.

GO      ?= go
PART    ?= fuzz
TIME    ?=
PKG     ?=
ACTORS  := build/actors
# Pinned: a newer one is taken by hand, when its findings are dealt with.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := help
.PHONY: help run build test check fmt vet staticcheck race portable wasip1 mutants jitter fuzz sim cycles fixtures bench placement soak chaos guests clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build the node and the example actors, start a node on loopback (ARGS="--http 127.0.0.1:8080")
	@exec bin/wasilo dev $(ARGS) $(ACTORS)

build: ## bin/wasilo and build/actors/examples.wasm
	@echo "1/2 building the node: bin/wasilo (the first time, with downloads, takes a minute)"
	@$(GO) build -o bin/wasilo ./host/cmd/wasilo
	@echo "2/2 building the example actors: $(ACTORS)/examples.wasm"
	@mkdir -p $(ACTORS)
	@$(GO) run ./tools/wasmbuild -o $(ACTORS)/examples.wasm ./guests/examples/go/all

test: ## vet, and every test
	$(GO) vet ./...
	$(GO) test -vet=off -timeout 40m ./...

check: fmt vet staticcheck race portable wasip1 fixtures fuzz sim ## what a change passes before it is committed; needs a C compiler for the race detector

fmt:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "run gofmt -w on:"; echo "$$files"; exit 1; }

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

race:
	$(GO) test -vet=off -race -timeout 60m ./...

portable: # what systems without mappings of memory files do, by the build tag
	$(GO) test -vet=off -tags portable ./host/engine/slot
	$(GO) test -vet=off -tags portable -run 'State|Rest|NoByte|Cycles|Template|Turn|Load' ./host/engine

wasip1: # the core of the cluster behaves the same in WebAssembly: its tests, run there
	@mkdir -p build
	$(GO) build -o build/wasip1 ./tools/wasip1
	GOOS=wasip1 GOARCH=wasm $(GO) test -vet=off -count=1 -timeout 40m -exec "$(CURDIR)/build/wasip1" ./cluster/core

mutants: ## take each requirement's line out of the source and show that its test fails (ROW=B2.3 for one)
	@mkdir -p build
	@$(GO) build -o build/mutants ./tools/mutants
	@build/mutants $(if $(ROW),-row $(ROW)) $(ARGS)

jitter: ## tests with delays in the code that they test, where races are found that load does not show: PKG=./host/silo TIME=20m ARGS="-race -seed 7"
	@$(GO) run ./tools/jitter $(if $(TIME),-time $(TIME)) $(ARGS) $(PKG)

fixtures: # testdata/wasm is what its sources and its manifest say
	$(GO) run ./tools/wasmbuild -check

fuzz: # every fuzz target, a moment each
	$(GO) run ./tools/soak -part fuzz -time 3s -fresh -report "" -dir build/fuzz

sim: ## 1,000 seeds of the simulated cluster, and the planted bugs found (one seed: go test ./cluster/core/sim -run Simulation -v -seed N)
	$(GO) test -vet=off -count=1 -timeout 40m -v ./cluster/core/sim
	$(GO) test -vet=off -count=1 -timeout 40m -v -tags planted -run Planted ./cluster/core/sim

cycles: ## nodes started and stopped a hundred times leave no goroutine, socket or file behind
	WASILO_CYCLES=100 $(GO) test -vet=off -count=1 -timeout 40m -v -run StartsAndStops ./host

bench: ## measure, and write docs/reports/DATE-bench.md (ARGS="-only local")
	@mkdir -p docs/reports
	$(GO) run ./tools/bench -out docs/reports/$$(date +%F)-bench.md $(ARGS)
	@cat docs/reports/$$(date +%F)-bench.md

placement: ## how the placement strategies spread a million actors over 1,000 nodes; writes docs/reports/DATE-placement.md
	@mkdir -p docs/reports
	$(GO) run ./tools/placement -out docs/reports/$$(date +%F)-placement.md $(ARGS)
	@cat docs/reports/$$(date +%F)-placement.md

soak: ## run a part for long, resumably: PART=fuzz TIME=10m (each target), PART=sim, PART=chaos ARGS="-mode quorum", PART=jitter TIME=20m (all targets together); writes docs/reports/DATE-soak-PART.md
	$(GO) run ./tools/soak -part $(PART) $(if $(TIME),-time $(TIME)) $(ARGS)

chaos: ## attack a real cluster in network namespaces (Linux, root or user namespaces): ARGS="-plan kill -mode available -seed 7"
	$(GO) run ./tools/chaos $(ARGS)

guests: ## build the example actors, and the fixtures of testdata/wasm anew
	@mkdir -p $(ACTORS)
	$(GO) run ./tools/wasmbuild -o $(ACTORS)/examples.wasm ./guests/examples/go/all
	$(GO) run ./tools/wasmbuild

clean: ## remove what was built; the Go caches stay
	rm -rf bin build
