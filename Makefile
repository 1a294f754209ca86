# Everything here works on a machine with nothing but python3 and make: no root, nothing outside this
# folder. uv comes into .uv, the packages of uv.lock into .venv, caches into .uv/cache.

# Asked from the root: here, .python-version (Heroku's) would make pyenv look for a Python that need not be there.
PYTHON ?= $(or $(shell cd / && python3 -c 'import sys; print(sys.executable)' 2>/dev/null),python3)
UV_VERSION := 0.13.9
UV := .uv/bin/uv
VENV := .venv/bin

# uv trusts a list of its own; behind a company's proxy the system's list is the one that works.
SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),--system-certs)

export UV_CACHE_DIR ?= $(CURDIR)/.uv/cache
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# A virtual environment that happens to be active is none of ours.
unexport VIRTUAL_ENV
# Where Python is told to keep no bytecode, each of the hundreds of processes that tests start would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# What tests run inside sessions, and what features use where it is there: Debian's names.
SYSTEM_PACKAGES := bash bubblewrap chromium chromium-driver coreutils curl less nginx-light nodejs openssh-client openssl procps python3 vim

# Of `make soak`: how long servers and processes are killed, how many sessions run, how many readers follow them, what decides it all.
SECONDS ?= 120
SESSIONS ?= 30
READERS ?= 200
SEED ?=
# Of `make load`: how long, how many users at once.
LOAD_SECONDS ?= 300
LOAD_USERS ?= 64

SYNC := $(UV) sync --locked --all-extras --compile-bytecode --python "$(PYTHON)" --no-python-downloads --quiet $(SYSTEM_CERTS)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-full soak check bench load load-artillery openapi system-packages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(UV) ## install everything from uv.lock into .venv
	$(SYNC)
	@touch .venv/.installed

run: .venv/.installed ## start Jelmore with all it needs on this machine (jelmore up)
	@$(VENV)/jelmore up

test: .venv/.installed ## the test suite; some of it: make test ARGS="tests/unit -k backoff"
	$(VENV)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-full: .venv/.installed ## the test suite with leases, margins and graces as long as in production: an hour
	JELMORE_TESTS_FULL=1 $(VENV)/python -m pytest -o timeout=900 $(ARGS)

soak: .venv/.installed ## kill and stop everything at random under load, then compare: SECONDS=120 SESSIONS=30 READERS=200 SEED=...
	$(VENV)/python -m tests.soak --seconds $(SECONDS) --sessions $(SESSIONS) --readers $(READERS) $(if $(SEED),--seed $(SEED))

check: .venv/.installed ## format, lint, types, import contracts, migrations in step with the tables
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/python -m migrations check

bench: .venv/.installed ## measure against a plain pipe and an afternoon's work
	$(VENV)/python -m benchmarks $(ARGS)

load: .venv/.installed ## drive an installation to this machine's limit, with a report page: LOAD_SECONDS=300 LOAD_USERS=64 ARGS="--url ..."
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.uv/locust $(UV) sync --locked --only-group load --python "$(PYTHON)" --no-python-downloads --quiet $(SYSTEM_CERTS)
	$(VENV)/python -m tests.load --seconds $(LOAD_SECONDS) --users $(LOAD_USERS) $(ARGS)

load-artillery: ## the same by artillery (needs npx) beside a running installation: LOAD_URL=http://127.0.0.1:8000 LOAD_KEY=... LOAD_SECONDS=60
	ARTILLERY_DISABLE_TELEMETRY=true LOAD_SECONDS=$(LOAD_SECONDS) npx --yes -p node@22 -p artillery@2 artillery run tests/load/api-load-test.yml

openapi: .venv/.installed ## write the API's description to docs/openapi.json: changes of the API show in review
	@$(VENV)/flask openapi > docs/openapi.json
	@$(VENV)/python -m app.openapi.event_page

system-packages: ## print what to run, as root, for all that tests and features can use of Debian or Ubuntu
	@echo apt-get install --yes --no-install-recommends $(SYSTEM_PACKAGES)

clean: ## remove what make made here; the data of `make run` (.jelmore) stays
	rm -rf .uv .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/.peers benchmarks/.built benchmarks/.debian

.venv/.installed: pyproject.toml uv.lock | $(UV)
	$(SYNC)
	@touch $@

$(UV):
	@echo "Fetching uv $(UV_VERSION) into .uv"
	@"$(PYTHON)" -I jelmore/bootstrap.py .uv $(UV_VERSION)
	@touch $@
