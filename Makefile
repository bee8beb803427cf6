## Usage: make TARGET          (needs python3, 3.11 or newer, make and git; all else goes into .venv)
##
##   run     the sandbox, a small payments API, and the proxy in front of it on http://127.0.0.1:8080;
##           health and metrics are on http://127.0.0.1:9090, records in var/
##             UPSTREAM=URL        front this API instead      STORE=URL          keep records there
##             LISTEN=HOST:PORT    listen there                CONFIG=FILE        settings in TOML
##             SANDBOX=HOST:PORT   the sandbox's address       ARGS="--flag ..."  more flags of `serve`
##   test    all tests                          ARGS="..." more arguments of pytest
##   check   style, types, import rules, container files
##   setup   install what is locked into .venv  PYTHON=python3.12 another interpreter
##   lock    bring requirements/*.lock in line with pyproject.toml   ARGS=--upgrade newest versions
##   clean   remove .venv and caches; var/, where records lie, stays

PYTHON := python3
BIN := .venv/bin
LOCKS := requirements/build.lock requirements/dev.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
           --custom-compile-command "make lock" $(ARGS)

.PHONY: help setup run test check lock clean

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
	$(BIN)/pytest $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest tests/unit/test_deploy.py

lock: setup
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) --output-file requirements/build.lock -
	$(COMPILE) --output-file requirements/run.lock pyproject.toml
	$(COMPILE) --output-file requirements/dev.lock --extra dev --constraint requirements/run.lock pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
