# The one way in. Every target builds what it needs; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UP_OPTIONS ?=
TEST_PROCESSES ?= 2
BENCH_OPTIONS ?=
UPGRADE ?=
LOCK = $(BIN)/python -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help setup up test drill check format bench bench-full schema settings graphiql lock demo clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## build .venv from the lock file

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nexus_graph needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: setup  ## start everything here: PostgreSQL, Valkey, Neo4j, relay, API (Ctrl-C stops it)
	$(BIN)/nexus-graph up $(UP_OPTIONS)

demo: setup  ## load the demonstration data into a running stack and print three families
	$(BIN)/nexus-graph demo

test: setup  ## every test, on real servers; TEST_PROCESSES=2 with servers of its own each
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

drill: setup  ## servers that hang, fill up and die, under load, with a stack of their own (under 15 minutes)
	$(BIN)/python -m pytest -m drill

check: setup  ## lint, types, formatting, schema, container files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nexus-graph schema export --check
	$(BIN)/python scripts/check_containers.py

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## measure next to the limits of the machine (5 minutes); BENCH_OPTIONS="--beside REVISION" compares
	$(BIN)/python -m bench $(BENCH_OPTIONS)

bench-full: setup  ## every arm for longer, dense families, five minutes without a pause, growth, bulk (25 minutes)
	$(BIN)/python -m bench --full $(BENCH_OPTIONS)

schema: setup  ## write schema/schema.graphql from the code
	$(BIN)/nexus-graph schema export

settings: setup  ## write docs/settings.md from nexus_graph/config.py
	$(BIN)/python scripts/settings_page.py

graphiql: setup  ## bundle GraphiQL from deploy/graphiql into the package (needs the npm registry)
	cd deploy/graphiql && export PATH="$(CURDIR)/$(BIN):$$PATH" && npm ci --loglevel=error && npm run --silent build

lock: setup  ## bring the lock files in step with pyproject.toml; UPGRADE=--upgrade takes the newest of everything
	$(LOCK) pyproject.toml --extra embedded --group dev $(UPGRADE) --output-file requirements.lock
	$(LOCK) pyproject.toml --constraint requirements.lock --no-annotate --output-file deploy/requirements.runtime.lock
	echo 'hatchling==1.33.0' | $(LOCK) - --constraint requirements.lock --no-annotate \
		--output-file deploy/requirements.build.lock

clean:  ## remove what the targets made (never the data in .nexus)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
