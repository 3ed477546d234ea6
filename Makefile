# `make demo` and `make test` are all that a fresh clone needs; `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
PY := $(BIN)/python
# 200 derandomised examples a property; HYPOTHESIS_PROFILE=dev is quicker and looks for new ones each time.
HYPOTHESIS_PROFILE ?= ci
# Pages made from code, by modules that take no argument: `make fix` runs those that are there.
GENERATORS := smtpdebug.cli.reference smtpdebug.cli.pages smtpdebug.cli.diagnosis_pages
DEMO := plain recipient-refused pipelining reset-in-data any-interface

.PHONY: help setup demo test lint fix bench

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## the virtual environment, the test tools and the system programs they drive
	@tools/setup.sh dev

demo: ## set up, then show transcripts of captures that ship
	@tools/setup.sh demo
	@for case in $(DEMO); do \
	    printf '\n$$ smtpdebug show captures/%s/capture.pcap\n' "$$case"; \
	    $(BIN)/smtpdebug show "captures/$$case/capture.pcap" || exit 1; \
	done

test: setup lint ## format, lint, types, import contracts, tests
	HYPOTHESIS_PROFILE=$(HYPOTHESIS_PROFILE) $(PY) -m pytest -n 2

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## format, repair what ruff can, write what is made from code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@for module in $(GENERATORS); do \
	    if $(PY) -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$$module') is None)" 2>/dev/null; then \
	        echo "$(PY) -m $$module"; $(PY) -m "$$module" || exit 1; \
	    fi; \
	done
	$(PY) tools/transcripts.py

bench: setup ## speed and memory beside tcpflow and tshark (a few minutes)
	$(PY) benchmarks/run.py
