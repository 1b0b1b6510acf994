# The commands of a person at this repository; `make help` lists them. Each sees to what it needs first.

PYTHON ?=
PYTHONS ?= 3.11 3.12 3.13
DATA ?=
BENCH ?=
UV ?= uv
SOAK_MINUTES ?= 60
# The oldest of all that is promised: this Python, and the dtoolcore that `dtool`, the command, asks for.
OLDEST ?= 3.10
DTOOL = dtool==3.27.0

BIN = .venv/bin
QUICK = not slow and not interop and not ui
READY = .venv/complete

# Another environment may be active, or the site may set these for everybody: none of them is for ours.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_CONSTRAINT PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER

.DEFAULT_GOAL := help
.PHONY: help setup demo bench bench-stores docs lint test test-all test-long test-pythons test-oldest test-stores soak rgw postgres chromium samba azurite constraints clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## The environment, in .venv; PYTHON=... chooses the interpreter
	@echo "== .venv is ready, with $$($(BIN)/python --version)"

# Versions come from constraints.txt, so that a release of tomorrow breaks nobody's environment.
$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	    { python="$(or $(PYTHON),$$(scripts/find-python))" && \
	      echo "== making .venv with $$python; this takes a minute or two" && "$$python" -m venv --clear .venv; }
	@$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt --build-constraint constraints.txt \
	    --editable . --group dev
	@touch $@

demo: $(READY) ## The main job on real data and servers of its own; DATA=folder for files of yours
	@$(BIN)/python demo/run.py $(if $(DATA),--data "$(DATA)")

bench: $(READY) rgw ## Speed beside s5cmd, rclone, dtool-s3 and others, in 30 minutes; BENCH="--only small --rounds 3" and the like
	$(BIN)/python -m benchmarks $(BENCH)

# All of it, each time: what has not changed would not warn again.
docs: $(READY) ## The pages and the reference as a site, in build/docs; a warning, as of a link that leads nowhere, is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs . build/docs
	@echo "== build/docs/index.html"

lint: $(READY) docs ## Style, types, who may import whom, the container, the pages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deployments/compose/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deployments/compose/compose.yaml

test: lint rgw ## Lint and the quick tests, in under 15 minutes
	$(BIN)/pytest -m "$(QUICK)" --durations=10

# Two at once: most of these tests wait for servers, and one after the other they would take 80 minutes. What each said is
# printed when it ends, and one that fails does not keep the others from being run.
test-all: $(READY) ## What takes longer: slow tests, published peers, other stores and Pythons, the oldest dtoolcore
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going test-long test-stores test-pythons test-oldest

test-long: $(READY) rgw postgres chromium
	$(BIN)/pytest -m "not ($(QUICK))" --durations=10

bench-stores: $(READY) rgw samba azurite ## Copies from and to other stores beside dtoolcore's own copy, in some minutes
	@scripts/test-with $(BIN)/python .cache/stores constraints.txt --group test --group stores -- --version
	.cache/stores/bin/python -m benchmarks.stores

# In an environment with the extra [all], as a site has it: dtoolcore imports all plugins whenever it looks one up.
test-stores: $(READY) rgw samba azurite chromium ## From and to the stores of other dtool plugins: HTTP, S3, Azure, SMB, iRODS
	@scripts/test-with $(BIN)/python .cache/stores constraints.txt --group test --group stores -- tests/stores

# On the other Pythons one server is enough: what differs is Python.
test-pythons: $(PYTHONS:%=test-python-%) ## The quick tests on each other Python that is here, from 3.11 to 3.13

test-python-%: $(READY) rgw
	@case "$$($(BIN)/python --version)" in "Python $*."*) echo "== Python $*: is that of .venv"; exit 0;; esac; \
	    python=$$(scripts/find-python $*) || { echo "== Python $*: left out"; exit 0; }; \
	    TEST_SERVERS=rgw scripts/test-with "$$python" .cache/python-$* constraints.txt --group test -- -m "$(QUICK)" --ignore tests/ui

test-oldest: $(READY) rgw ## The quick tests on Python 3.10, where it is here, beside dtool 3.27, which pins dtoolcore 3.18.3
	@mkdir -p .cache && grep -v '^dtool' constraints.txt > .cache/constraints-dtool.txt
	@python=$$(scripts/find-python $(OLDEST)) || python=$(BIN)/python; \
	    TEST_SERVERS=rgw scripts/test-with "$$python" .cache/oldest .cache/constraints-dtool.txt --group test $(DTOOL) -- -m "$(QUICK)" --ignore tests/ui

soak: $(READY) rgw ## An hour of archiving, retrieving and deleting under faults: does anything pile up? SOAK_MINUTES chooses
	SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/pytest tests/faults/test_soak.py

rgw: ## Ceph's RADOS Gateway, a real server for the tests: installed where that is possible
	@scripts/install rgw

postgres: ## A real PostgreSQL for the tests of the deployments: installed where that is possible
	@scripts/install postgres

samba: ## A real SMB server for the tests of other stores: installed where that is possible
	@scripts/install samba

azurite: ## An Azure Blob server for the tests of other stores, in .cache: installed where that is possible
	@scripts/install azurite

chromium: ## A real browser for the tests of the Prefect UI: installed where that is possible
	@scripts/install chromium

constraints: ## Pin the newest versions that go together, for every Python; needs uv
	$(UV) pip compile --quiet --universal --upgrade --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
	    --no-emit-find-links --output-file constraints.txt --group dev --group symlink --extra all pyproject.toml

clean: ## Remove what these commands made
	rm -rf .venv .cache build dist test-artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find dtool_ecs_flows tests flows demo benchmarks -name __pycache__ -prune -exec rm -rf {} +
