# Everything that lakery-cloud's developers run. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait for servers and time-outs half of their time: one more than two cores.
WORKERS ?= 3
MINUTES ?= 5
# A run of all tests writes the table of conformance cases; a run of some must not.
TABLE = $(if $(ARGS),,--conformance-table=docs/conformance-results.md)
CONSTRAINTS := constraints/dev.txt
PIP_AUDIT := pip-audit==2.10.1
# Where it is set, every process that a test starts compiles our modules again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo bench bench-scale test test-aiobotocore matrix soak attack pictures check pages audit format docs build clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.test ## Persist real input to files and to S3 started in process, read it back verified
	@$(BIN)/python -m benchmarks.demo

bench: $(VENV)/.test ## Measure beside other clients, on servers that store nothing; installs these clients into the cache folder
	@$(BIN)/python -m benchmarks $(ARGS)

bench-scale: $(VENV)/.test ## Measure jobs on whole buckets, simulated and on SeaweedFS, beside rclone and a plain script
	@$(BIN)/python -m benchmarks.scale $(ARGS)

test: $(VENV)/.test ## Run all tests; installs and starts the local servers that they need
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TABLE) $(ARGS)

test-aiobotocore: $(VENV)/.test ## Run S3's tests on the newest aiobotocore; installs it into the cache folder
	$(BIN)/python -m tests.aiobotocore -n $(WORKERS) $(ARGS)

matrix: $(VENV)/.test ## Try the wheel with the lowest and newest dependencies, each extra alone, on PYTHON; makes environments in .venv
	$(BIN)/python -m tests.matrix --python $(PYTHON) $(ARGS)

soak: $(VENV)/.test ## Mixed load with faults on each cloud's server for MINUTES, then an audit; writes docs/soak.md
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --table docs/soak.md

attack: $(VENV)/.test ## Generated attacks with new seeds for MINUTES (20 is a good number); writes the counts in docs/security.md
	$(BIN)/python -m tests.attack --minutes $(MINUTES) --page docs/security.md

pictures: $(VENV)/.test ## Make the terminal pictures of the README again, in docs/pictures/
	@$(BIN)/python -m benchmarks.pictures

check: $(VENV)/.check ## Format, lint, security rules, types, layers, pinned dependencies, code blocks of the docs
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/python -m pytest tests/security/test_dependencies.py
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m docs $(ARGS)

pages: $(VENV)/.test ## Write the pages of docs/ that come from the code: settings, stores, errors, the command's options
	$(BIN)/python -m tools.pages

audit: $(VENV)/.venv ## Look the pinned dependencies up among known vulnerabilities; needs the network
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_AUDIT)
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $(CONSTRAINTS)

format: $(VENV)/.check ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs ## Build the documentation into site/, and check it in a headless Chromium, if there is one
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m tools.browser_checks site

build: $(VENV)/.check ## Build wheel and source distribution into dist/, always the same bytes for the same commit
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation

clean: ## Remove the environment and what was built
	rm -rf $(VENV) site dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lakery-cloud needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "making the environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# One environment; a target adds the extra that it needs.
$(VENV)/.%: $(VENV)/.venv pyproject.toml $(CONSTRAINTS)
	@echo "installing lakery-cloud[$*] and what it needs ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[$*]"
	@touch $@
