# Everything a person does with this repository. `make` alone explains itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The project brings its own Node; npm itself runs on the one of the machine.
BIN := $(CURDIR)/node_modules/.bin
OWN := export PATH="$(BIN):$$PATH";
NPM_INSTALL := npm install --no-save --no-audit --no-fund --loglevel=error

CODE := $(wildcard src operator test examples tools)
LINT := tools/lint/node_modules/.bin
CACHE := node_modules/.cache
FRESH := $(CACHE)/generated
JEST := node --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js

##@ Use it
.PHONY: run serve cluster

run: install ## Start a broker and two agents, and let them work on a folder of texts: make run INPUT=dir
	@$(OWN) exec node examples/run.ts $${INPUT:+"$$INPUT"}

serve: install ## Keep a broker running; the environment and ARGS="--port 6000" reach it
	@$(OWN) exec node src/cli/main.ts serve $(ARGS)

cluster: install nats-server ## Start three NATS servers and three brokers on this machine, and say how to play with them
	@$(OWN) exec node examples/cluster.ts

##@ Prove it
.PHONY: test check sim chaos operator-test obs-test bench bench-compare

# Building the API server takes minutes, so it is built for those tests alone that need it.
test: install lint-tools nats-server $(if $(and $(TESTS),$(if $(or $(findstring operator,$(TESTS)),$(findstring chart,$(TESTS))),,x)),,kube-apiserver) ## Run the checks and all tests, or some: make test TESTS=test/unit
	@$(OWN) exec node $(wordlist 2,3,$(JEST)) tools/test.ts $(TESTS)

check: install lint-tools ## Types, style, formatting, imports, unused code, generated files
	@$(MAKE) --keep-going --jobs=2 --output-sync=target types lint formatted imports unused protos generated
	@echo 'All checks pass.'

sim: install ## Simulate brokers and clusters with faults: make sim SEEDS=100000 SIM=clusters
	@$(OWN) exec $(JEST) test/sim/$(SIM)

chaos: install nats-server ## Kill real brokers under load and count what is lost
	@$(OWN) exec $(JEST) --testPathIgnorePatterns=/node_modules/ -- test/chaos

operator-test: install kube-apiserver ## The operator on a real API server, with all that can go wrong there
	@$(OWN) exec $(JEST) --testPathIgnorePatterns=/node_modules/ -- test/operator

obs-test: install nats-server prometheus ## Alerts and dashboards with a real Prometheus on a real cluster, with faults
	@$(OWN) exec $(JEST) --testPathIgnorePatterns=/node_modules/ --runInBand -- test/obs

bench-compare: install nats-server ## Measure beside JetStream, RabbitMQ and BullMQ, which it fetches: make bench-compare ARGS=--quick
	@tools/compare/install.sh
	@$(OWN) exec node test/bench/main.ts --only compare $(ARGS)

bench: install ## Measure beside bare gRPC and write docs/benchmarks: make bench ONLY=native ARGS=--quick
	@$(OWN) exec node test/bench/main.ts $${ONLY:+--only "$$ONLY"} $(ARGS)

##@ Trust it
.PHONY: fuzz sbom audit

fuzz: install ## Feed a broker whatever may come: make fuzz DURATION=10m, or again: make fuzz SEED=7 CASES=1
	@$(OWN) exec node test/fuzz/main.ts $${DURATION:+--duration "$$DURATION"} $${SEED:+--seed "$$SEED"} $${CASES:+--cases "$$CASES"}

sbom: install ## Write agenthub.cdx.json: all that is shipped, in CycloneDX
	@npm sbom --sbom-format cyclonedx --omit=dev --package-lock-only > agenthub.cdx.json
	@echo 'agenthub.cdx.json lists what is shipped.'

audit: install ## Ask the registry for known holes in what is shipped
	@if said="$$(npm audit --omit=dev 2>&1)"; then echo "$$said"; \
	elif grep -qE 'audit endpoint|ENOAUDIT|ENOTFOUND|ECONNREFUSED|ETIMEDOUT' <<<"$$said"; then \
	  echo "The registry $$(npm config get registry) can't be asked: it has no audits, or can't be reached." >&2; exit 2; \
	else echo "$$said"; exit 1; fi

##@ Try it on Kubernetes, a real one of its own, as root
.PHONY: kube-test kube-up kube-shell kube-down kube-images kube-tools

# A name: there may be several.
KUBE ?= default
KUBE_SH := test/support/kube/kube.sh

kube-test: install kube-images ## Run the tests that need Kubernetes, or some: make kube-test TESTS=test/kube/smoke
	@$(OWN) exec $(JEST) --config test/kube/jest.config.js $(TESTS)

kube-up: kube-images ## Start one, with the code as it is: make kube-up NODES=3 KUBE=second
	@$(KUBE_SH) up $(KUBE) $(NODES)

kube-shell: ## A shell in it, with kubectl and helm
	@exec $(KUBE_SH) exec $(KUBE) bash

kube-down: ## End it, and leave nothing
	@$(KUBE_SH) down $(KUBE)

kube-images: install kube-tools nats-server ## Make its images, agenthub:dev and nats
	@$(OWN) exec flock test/support/kube/images.ts node test/support/kube/images.ts

kube-tools: .tools/kube/built ## Build Kubernetes: ten minutes the first time
	@tools/kube/packages.sh

.tools/kube/built: $(wildcard tools/kube/* tools/kube/*/*)
	@echo 'Building Kubernetes: ten minutes the first time.'
	@tools/kube/build.sh
	@mkdir -p $(@D) && touch $@

##@ Change it
.PHONY: install generate format clean

install: node_modules/.installed ## Install what package-lock.json names, with the project's own Node

generate: install ## Write all generated files again: code from proto/, documents from the code
	@$(call write-generated,.)

format: install lint-tools ## Format and mend what can be mended by a tool
	@$(OWN) prettier --log-level warn --write .
	@$(OWN) $(LINT)/eslint -c tools/lint/eslint.config.js --no-error-on-unmatched-pattern --fix $(CODE)

clean: ## Remove all that was installed, built or measured here; data of brokers stays
	@rm -rf node_modules tools/lint/node_modules tools/compare/node_modules .tools dist coverage

# The parts of `make check`.
.PHONY: types lint formatted imports unused protos generated

types: install
	@echo '· types: tsc'
	@$(OWN) tsc -p .

lint: install lint-tools
	@echo '· lint: eslint'
	@$(OWN) $(LINT)/eslint -c tools/lint/eslint.config.js --no-error-on-unmatched-pattern --max-warnings=0 \
	  --cache --cache-location $(CACHE)/eslint/ $(CODE)

formatted: install
	@echo '· formatted: prettier (make format mends it)'
	@$(OWN) prettier --log-level warn --check --cache .

imports: install lint-tools
	@echo '· imports: dependency-cruiser'
	@$(OWN) $(LINT)/depcruise --config tools/lint/depcruise.config.cjs $(CODE)

unused: install
	@echo '· unused: knip'
	@$(OWN) knip --no-progress --no-config-hints

protos: install
	@echo '· protos: buf lint'
	@$(OWN) buf lint

generated: install
	@echo '· generated: no difference (make generate mends it)'
	@rm -rf $(FRESH) && mkdir -p $(FRESH)
	@$(call write-generated,$(FRESH))
	@diff -r $(FRESH)/src/wire/gen src/wire/gen
	@cd $(FRESH) && find . -type f -not -path './src/wire/gen/*' -exec diff {} $(CURDIR)/{} ';'

# Every tools/generate-*.ts writes its files below the folder that is its argument.
define write-generated
$(OWN) buf generate --output $(1); \
for generator in $(wildcard tools/generate-*.ts); do node $$generator $(1); done
endef

# `npm ci` needs the binaries of all platforms in the registry, and not every mirror has them. Without
# `--no-save` an older npm would rewrite the lock file.
node_modules/.installed: package.json package-lock.json
	@echo 'Installing: one to two minutes the first time.'
	@$(NPM_INSTALL)
	@want="v$$(node -p 'require("./package.json").devDependencies.node')"; \
	have="$$($(BIN)/node -v 2>/dev/null || echo missing)"; \
	if [ "$$have" != "$$want" ]; then \
	  echo "This project runs on its own Node $$want, from the npm package 'node', but node_modules/.bin/node is: $$have."; \
	  echo "Its install script did not run or could not download it. Look at 'npm config get ignore-scripts',"; \
	  echo "then run: rm -rf node_modules && make install"; \
	  exit 1; \
	fi >&2
	@touch $@

.PHONY: lint-tools
lint-tools: tools/lint/node_modules/.installed

tools/lint/node_modules/.installed: tools/lint/package.json tools/lint/package-lock.json
	@echo 'Installing the linters.'
	@$(NPM_INSTALL) --prefix tools/lint
	@touch $@

.PHONY: nats-server
nats-server: .tools/bin/nats-server

# The version in tools/nats/go.mod, built from source: the same on every machine.
.tools/bin/nats-server: tools/nats/go.mod tools/nats/go.sum
	@command -v go >/dev/null || { echo 'The tests need a NATS server, and building it needs Go: https://go.dev/dl' >&2; exit 1; }
	@echo 'Building nats-server: some minutes the first time.'
	@cd tools/nats && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ github.com/nats-io/nats-server/v2
	@touch $@

.PHONY: prometheus
prometheus: .tools/bin/prometheus .tools/bin/promtool

# Without its web pages, and without what finds targets in clouds.
.tools/bin/prometheus .tools/bin/promtool &: tools/prometheus/go.mod tools/prometheus/go.sum
	@command -v go >/dev/null || { echo 'These tests need Prometheus, and building it needs Go: https://go.dev/dl' >&2; exit 1; }
	@echo 'Building Prometheus: some minutes the first time.'
	@cd tools/prometheus && CGO_ENABLED=0 go build -tags remove_all_sd -trimpath -ldflags='-s -w' -o $(CURDIR)/.tools/bin/ \
	  github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool
	@touch .tools/bin/prometheus .tools/bin/promtool

.PHONY: kube-apiserver
kube-apiserver: .tools/bin/kube-apiserver .tools/bin/etcd .tools/bin/helm

# What the operator and its chart are tested with needs no root and no nodes; make kube-tools builds all of Kubernetes.
.tools/bin/kube-apiserver .tools/bin/etcd .tools/bin/helm &: tools/kube/go.mod tools/kube/go.sum
	@echo 'Building kube-apiserver, etcd and helm: six minutes the first time.'
	@tools/kube/build.sh kube-apiserver
	@touch .tools/bin/kube-apiserver .tools/bin/etcd .tools/bin/helm

.PHONY: help
help:
	@echo 'AgentHub: a message broker for AI agents. It needs git, make, Node 20 or newer, and npm; its tests also Go.'
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
