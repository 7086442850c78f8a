# Drawbridge. `make` prints this help.
SHELL   := /bin/sh
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN     := bin/drawbridge
LINT    := go tool -modfile=.tools/go.mod golangci-lint

.PHONY: help
help: ## print this help
	@echo "Drawbridge: a mesh-VPN sidecar agent for hybrid routing."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/drawbridge
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/drawbridge

.PHONY: demo
demo: build ## a machine room goes dark and comes back, with real agents, in two minutes
	@$(BIN) lab demo

.PHONY: test
test: ## every test that needs no privilege, and those that do where they may run
	go test ./...

.PHONY: race
race: ## the same under the race detector
	CGO_ENABLED=1 go test -race ./...

BOOT := tunnel/kernel/qemu/boot
.PHONY: test-kernel
test-kernel: ## the kernel backend on Debian's own kernel, booted in qemu
	@mkdir -p bin
	CGO_ENABLED=0 go test -c -trimpath -o bin/kernel.test ./tunnel/kernel
	CGO_ENABLED=0 go test -c -trimpath -o bin/command.test ./cmd/drawbridge
	$(BOOT) -t 400 -e DRAWBRIDGE_KERNEL=must bin/kernel.test -test.v -test.run '^Test[^D]'
	$(BOOT) -t 200 -e DRAWBRIDGE_KERNEL=must bin/command.test -test.v -test.run '^Test(Cleanup|Auto)'

.PHONY: bench-kernel
bench-kernel: ## the kernel backend beside wg and ip by hand, in qemu
	@mkdir -p bin
	CGO_ENABLED=0 go test -c -trimpath -o bin/kernel.test ./tunnel/kernel
	$(BOOT) -t 300 -w wg -w ip -e DRAWBRIDGE_KERNEL=bench bin/kernel.test -test.v -test.run '^TestBesideByHand$$'

.PHONY: lab-test
lab-test: build ## the whole story in the lab: namespaces where allowed, and loopback
	DRAWBRIDGE_LAB=1 go test -count=1 -timeout 18m -v -run 'TestLab' ./deploy/lab

.PHONY: lab-long
lab-long: build ## the stories of the lab that take minutes
	DRAWBRIDGE_LAB=long go test -count=1 -timeout 18m -v -run 'TestLabRenewal|TestLabMTUPPPoE|TestLabUDPBlocked|TestLabPaths' ./deploy/lab

.PHONY: lint
lint: ## formatter and linters
	$(LINT) fmt --diff
	$(LINT) run ./...

.PHONY: check
check: lint ## lint, vet, floors, and every test under the race detector
	go vet ./...
	go test -run TestFloors ./agent
	$(MAKE) race

.PHONY: fmt
fmt: ## format the tree
	$(LINT) fmt

.PHONY: bench
bench: ## benchmarks of the rules and the decoders
	go test -run '^$$' -bench . -benchmem ./agent/decide ./discovery/probe

FUZZTIME ?= 10m
STRANGERS := agent/enroll:FuzzQuestion agent/enroll:FuzzQuestionBody agent/enroll:FuzzHello agent/pki:FuzzVerify agent/pki:FuzzVerifyRenewal \
	agent/pki:FuzzRollAdd discovery/awsid:FuzzParseProof discovery/awsid:FuzzAuthorization discovery/gossip:FuzzPacket discovery/gossip:FuzzPushPull \
	discovery/gossip:FuzzWithNotices discovery/gossip:FuzzMerge discovery/probe:FuzzDecode discovery/probe:FuzzNote \
	tunnel/stream:FuzzFrames

.PHONY: fuzz
fuzz: ## every decoder that a stranger or a hostile member reaches, FUZZTIME (10m) each
	@for t in $(STRANGERS); do go test -run '^$$' -fuzz "^$${t#*:}$$" -fuzztime $(FUZZTIME) ./$${t%:*} || exit 1; done

.PHONY: figures
figures: build ## the figures of the README, measured here (about half an hour)
	@$(BIN) lab measure all

# Tailscale and nebula ask for a newer Go than we do.
PEERS_GO ?= go1.27.3
PEERS_BUILD := GOTOOLCHAIN=$(PEERS_GO) CGO_ENABLED=0 go build -trimpath -ldflags "-s -w"

.PHONY: peers
peers: ## other overlays for `bin/drawbridge lab measure overlay` to compare with, into bin/peers
	@mkdir -p bin/peers
	cd .tools/peers/nebula && $(PEERS_BUILD) -o ../../../bin/peers/ github.com/slackhq/nebula/cmd/nebula github.com/slackhq/nebula/cmd/nebula-cert
	cd .tools/peers/tailscale && $(PEERS_BUILD) -o ../../../bin/peers/ tailscale.com/cmd/tailscale tailscale.com/cmd/tailscaled
	cd .tools/peers/tailscale && $(PEERS_BUILD) -o ../../../bin/peers/tailscale-control ./control

.PHONY: clean
clean: ## remove what make built
	rm -rf bin
