## Usage: make TARGET          (needs python3, 3.11 or newer, make and git; all else goes into .venv)
##
##   run     the sandbox, a small payments API, and the proxy in front of it on http://127.0.0.1:8080;
##           health and metrics are on http://127.0.0.1:9090, records in var/
##             UPSTREAM=URL        front this API instead      STORE=URL          keep records there
##             LISTEN=HOST:PORT    listen there                CONFIG=FILE        settings in TOML
##             SANDBOX=HOST:PORT   the sandbox's address       ARGS="--flag ..."  more flags of `serve`
##   test    all tests but the longest          ARGS="..." more arguments of pytest
##   test-full  all tests, some minutes: every row of the wire's tables is cut at every byte, too
##   fuzz    the wire's readers with what atheris thinks of, on Linux; says where it left what it found
##             SECONDS=60 for each target   TARGETS="requests responses chunked"
##   wire-nginx  the wire's tables through an nginx, which must be installed; explains what it does otherwise
##   wire-table  writes docs/wire-table.md
##   chaos   proxies, stores and an API under faults at random, for minutes; fails where a promise is broken
##             ARGS="--seconds 600 --seed 7 --store redis"
##   check   style, types, import rules, container files
##   setup   install what is locked into .venv  PYTHON=python3.12 another interpreter
##   bench-memory  what idle connections and large bodies cost a worker, in memory; Linux only
##   bench-records  what a record costs in Redis, in bytes, and to make and read, in CPU
##   bench-stores  what a store and its durability cost: round trips, requests a second, CPU; needs wrk
##   lock    bring requirements/*.lock in line with pyproject.toml   ARGS=--upgrade newest versions
##   clean   remove .venv and caches; var/, where records lie, stays

PYTHON := python3
BIN := .venv/bin
# A file of tests is not torn apart: its tests share servers.
AT_ONCE := -n 3 --dist loadfile
SECONDS := 60
LOCKS := requirements/build.lock requirements/dev.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Extras stay: pip, given hashes, takes a name without one for another requirement, and its newest version for it.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
           --custom-compile-command "make lock" $(ARGS)

.PHONY: help setup run test test-full fuzz wire-nginx wire-table chaos check bench-memory bench-stores bench-records sdk-node lock clean

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

setup: .venv/.installed

.venv/.locked: $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.12")'
	@echo "installing into .venv, which takes a minute"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes $(LOCKS:%=-r %)
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# It has UPSTREAM=... from make's environment. exec: make passes SIGTERM on to the process it started, not further.
run: setup
	@exec deploy/run $(BIN)/idempotency-proxy

test: setup
	$(BIN)/pytest $(AT_ONCE) $(ARGS)

test-full: setup
	$(BIN)/pytest $(AT_ONCE) --full $(ARGS)

# On top of what is locked for the tests, and only here: there is no atheris for every machine.
fuzz: setup
	@$(PIP) install --require-hashes -r requirements/fuzz.lock
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

wire-nginx: setup
	@$(BIN)/python -m tests.wire.beside

wire-table: setup
	$(BIN)/python -m tests.wire.table > docs/wire-table.md

chaos: setup
	$(BIN)/python -m tests.chaos $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest tests/unit/test_deploy.py

bench-memory: setup
	$(BIN)/python -m tests.bench.memory

bench-stores: setup
	$(BIN)/python -m tests.bench.stores $(ARGS)

bench-records: setup
	$(BIN)/python -m tests.bench.records

sdk-node:
	cd tests/e2e/sdk/node && npm ci --ignore-scripts

lock: setup
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) --output-file requirements/build.lock -
	$(COMPILE) --output-file requirements/run.lock pyproject.toml
	$(COMPILE) --output-file requirements/dev.lock --extra dev --constraint requirements/run.lock pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' \
		| $(COMPILE) --output-file requirements/fuzz.lock -

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
