# Two commands for a newcomer: `make demo` and `make test`. Both need only Python, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --no-input --disable-pip-version-check -c constraints.txt
ARGS ?=
# Two at a time, each file by one of them: a test computes in one thread, and some start processes of their own.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

# Models and data come with packages, so nothing may ask a hub.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint install bench

help:
	@echo "make demo    fine-tune a small model to search API documentation (ARGS=--resume goes on with a stopped run)"
	@echo "make test    the fast tests"
	@echo "make check   lint, format, types and all tests"
	@echo "make bench   measure against sentence-transformers into benchmarks/results.md (ARGS=--quick: two minutes)"

demo: $(VENV)/.demo
	$(BIN)/python examples/search_api_docs.py $(ARGS)

test: $(VENV)/.dev
	$(PYTEST) -m "not slow" $(ARGS)

check: lint
	$(PYTEST) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

install: $(VENV)/.dev

# A stamp is written last: an interrupted installation is taken up again, a finished one is not repeated.
# ranx needs numba, which comes late to a new Python: without it one test and one line of the benchmark are left out.
$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -e ".[dev]"
	-$(PIP) ranx
	touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(PIP) -e ".[bench]"
	-$(PIP) ranx
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) -e ".[demo]"
	touch $@

# By itself and pinned: beside other packages an installer may choose a build of torch that is gigabytes larger.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	touch $@
