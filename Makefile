# Needs Python 3.11 or newer and make, nothing else. `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What a run needs, and what tests, checks, benchmarks and the documentation need beyond it.
RUN := $(VENV)/.run
DEV := $(VENV)/.installed
INSTALL := $(BIN)/pip install --quiet --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(RUN) ## make the environment of a run in .venv, at the pinned versions

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages of a run into $(VENV); this takes a minute or some"
	$(INSTALL) -e .
	@touch $@

.PHONY: install
install: $(DEV) ## the same, and what tests, checks, benchmarks and documentation need

$(DEV): $(RUN)
	@echo "installing the pinned packages of the tests and tools into $(VENV); this takes some minutes"
	$(INSTALL) -e '.[dev]'
	@touch $@

.PHONY: demo
demo: $(RUN) ## annotate the embedded corpus on local Ray and show an excerpt
	$(BIN)/luke-batch demo

.PHONY: test
test: $(DEV) ## run all tests
	$(BIN)/pytest

.PHONY: test-unit
test-unit: $(DEV) ## run the fast tests of single modules
	$(BIN)/pytest tests/unit

.PHONY: test-integration
test-integration: $(DEV) ## run the tests of whole jobs on local Ray
	$(BIN)/pytest tests/integration

.PHONY: test-chaos
test-chaos: $(DEV) ## run the tests that kill processes and disturb the store
	$(BIN)/pytest tests/chaos

.PHONY: chaos
chaos: export LUKE_BATCH_CHAOS_ROUNDS ?= 10
chaos: export LUKE_BATCH_CHAOS_SEED ?= $(shell date +%s)
chaos: $(DEV) ## the same ten times with other seeds, and 40 kills and pauses at single writes: hours
	$(BIN)/pytest tests/chaos --timeout=1800

.PHONY: chaos-hosts
chaos-hosts: export LUKE_BATCH_CHAOS_HOSTS = 1
chaos-hosts: $(DEV) ## cut a cluster's hosts off, lose packets, nodes and the store: half an hour, as root
	$(BIN)/pytest tests/chaos/test_hosts.py --timeout=3600

.PHONY: bench
bench: $(DEV) ## time engines and the whole job, measure memory: writes docs/benchmarks.md
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.job
	$(BIN)/python -m benchmarks.memory

.PHONY: bench-smoke
bench-smoke: $(DEV) ## time the embedded model on few items
	$(BIN)/python -m benchmarks --smoke

.PHONY: bench-job
bench-job: $(DEV) ## time the whole job: in process, on Ray, as a plain script
	$(BIN)/python -m benchmarks.job

.PHONY: bench-memory
bench-memory: $(DEV) ## measure the memory of an actor and of a large entity table
	$(BIN)/python -m benchmarks.memory

.PHONY: bench-plan
bench-plan: $(DEV) ## time planning over 10,000 files
	$(BIN)/python -m benchmarks.planning

.PHONY: bench-driver
bench-driver: $(DEV) ## run 100,000 fragments through the driver, without models
	$(BIN)/python -m benchmarks.driver

.PHONY: bench-aliases
bench-aliases: $(DEV) ## compile, map and search an alias table of a million names
	$(BIN)/python -m benchmarks.aliases

.PHONY: bench-index
bench-index: $(DEV) ## build and search an index of a million entities, beside a plain script
	$(BIN)/python -m benchmarks.index

.PHONY: size
size: $(DEV) ## count files, lines and rooms, and what one sentence passes through
	$(BIN)/python -m manual.size

.PHONY: docs
docs: $(DEV) ## build the documentation site in build/site; a dead link fails
	$(BIN)/python -m manual

.PHONY: fuzz
fuzz: export LUKE_BATCH_FUZZ ?= 21000
fuzz: $(DEV) ## feed 21,000 broken inputs: some minutes
	$(BIN)/pytest tests/fuzz --timeout=3600

.PHONY: wheel-check
wheel-check: ## build the wheel and run its demo in a clean environment
	PYTHON=$(PYTHON) .ci/wheel-check

.PHONY: audit
audit: $(DEV) ## ask the advisory service about the pinned packages; needs the network
	$(INSTALL) -e '.[audit]'
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --desc on

.PHONY: check
check: $(DEV) ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

.PHONY: format
format: $(DEV) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## remove the environment, caches and the demo's output
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
