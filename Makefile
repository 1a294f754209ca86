# Everything here works on a machine with nothing but python3 and make: no root, nothing outside this
# folder. uv comes into .uv, the packages of uv.lock into .venv, caches into .uv/cache.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/bin/uv
VENV := .venv/bin

# uv trusts a list of its own; behind a company's proxy the system's list is the one that works.
SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),--system-certs)

export UV_CACHE_DIR ?= $(CURDIR)/.uv/cache
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# A virtual environment that happens to be active is none of ours.
unexport VIRTUAL_ENV

SYNC := $(UV) sync --locked --all-extras --python "$(PYTHON)" --no-python-downloads --quiet $(SYSTEM_CERTS)

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(UV) ## install everything from uv.lock into .venv
	$(SYNC)
	@touch .venv/.installed

run: .venv/.installed ## start Jelmore with all it needs on this machine (jelmore up)
	@$(VENV)/jelmore up

test: .venv/.installed ## the test suite; some of it: make test ARGS="tests/unit -k backoff"
	$(VENV)/python -m pytest $(ARGS)

check: .venv/.installed ## format, lint, types, import contracts, migrations in step with the tables
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/python -m migrations check

bench: .venv/.installed ## measure against a plain pipe and an afternoon's work
	$(VENV)/python -m benchmarks $(ARGS)

clean: ## remove what make made here; the data of `make run` (.jelmore) stays
	rm -rf .uv .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.installed: pyproject.toml uv.lock | $(UV)
	$(SYNC)
	@touch $@

$(UV):
	@echo "Fetching uv $(UV_VERSION) into .uv"
	@"$(PYTHON)" -I jelmore/bootstrap.py .uv $(UV_VERSION)
	@touch $@
