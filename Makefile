# Overread: everything there is to remember. `make run` reads sample studies; `make test` runs the tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STUDIES ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup peers run test check bench prove train clean

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.runtime ## Make .venv and install the product

$(VENV)/.runtime: pyproject.toml
	@bash deploy/make-venv $(VENV)
	@echo "Installing Overread (a minute on a first run) ..."
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

peers: ## Debian packages that the tests talk to (needs root; without it they must be there)
	@bash deploy/install-peers

run: $(VENV)/.runtime ## Start everything, read the samples (or STUDIES=/path), and serve until Ctrl-C
	@exec $(BIN)/overread demo $(if $(STUDIES),--studies "$(STUDIES)")

test: $(VENV)/.dev peers ## All tests, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=85

check: $(VENV)/.dev ## Format, lint, types, layers
	$(BIN)/ruff format --check src tests training benchmarks
	$(BIN)/ruff check src tests training benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev peers ## Speed, as ratios taken side by side in one run
	$(BIN)/python -m benchmarks

prove: $(VENV)/.dev peers ## The long runs: accuracy, crash test and bench; reports go to docs/reference (fails on a drop)
	$(BIN)/python -m benchmarks.accuracy --report docs/reference/accuracy.md --json docs/reference/accuracy.json
	$(BIN)/python -m benchmarks.crash --rounds 10 --studies 50 --report docs/reference/crash.md
	$(BIN)/python -m benchmarks.fuzz_api --cases 2000 --report docs/reference/api-fuzz.md
	$(BIN)/python -m benchmarks --report docs/reference/speed.md

train: ## Train the chest X-ray model from ../shared/data (torch in an environment of its own, an hour or more)
	@bash deploy/make-venv .venv-training
	@.venv-training/bin/python -m pip install --quiet --editable '.[training]'
	.venv-training/bin/python -m training.chest_xray

clean: ## Forget the environment (the installation's data under .state stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
