# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
PORT ?= 3000
ADDRESS ?= 127.0.0.1
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python manage.py

.DEFAULT_GOAL := help
.PHONY: help serve test test-postgres torture check lint typecheck format bench install install-celery install-storage requirements

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("importops needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.11 …)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	@touch $@

$(VENV)/development: $(VENV)/runtime requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

install-celery: $(VENV)/runtime ## Also what IMPORTOPS_QUEUE=celery needs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-celery.txt

install-storage: $(VENV)/runtime ## Also what IMPORTOPS_STORAGE=s3 needs
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-s3.txt

install: $(VENV)/runtime ## Install what the service needs into .venv

serve: $(VENV)/runtime ## Set everything up and run the service (PORT=3000)
	@$(RUN) bootstrap --show-curl $(PORT)
	@exec $(RUN) serve --address $(ADDRESS) --port $(PORT)

test: $(VENV)/development ## Set everything up and run the tests, with coverage
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered $(ARGS)

test-postgres: $(VENV)/development ## The same tests on PostgreSQL (TEST_POSTGRESQL_URL; else the local socket)
	DATABASE_URL=$${TEST_POSTGRESQL_URL:-postgres:///importops} $(BIN)/python -m pytest -n 2 $(ARGS)

torture: $(VENV)/development ## Break things at random for an hour (SECONDS=600 SEED=1 FAULT=worker)
	$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed '$(SEED)') $(if $(FAULT),--fault '$(FAULT)') $(ARGS)

lint: $(VENV)/development ## Style, layers, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(RUN) makemigrations --check --dry-run
	$(RUN) check

typecheck: $(VENV)/development ## Types
	$(BIN)/mypy importops project

check: lint typecheck ## Everything that needs no test run

format: $(VENV)/development ## Put the code into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/development ## Measure preparing, importing and the seed endpoint against raw baselines
	$(BIN)/python tests/benchmarks/bench.py $(ARGS)

requirements: ## Compile the pins (needs uv)
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make requirements' requirements.in -o requirements.txt
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make requirements' -c requirements.txt requirements-dev.in -o requirements-dev.txt
	for set in celery s3 s3-dev; do uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make requirements' -c requirements.txt -c requirements-dev.txt requirements-$$set.in -o requirements-$$set.txt || exit 1; done
