# Everything starts here, from nothing but python3 (>= 3.11) and pip; node comes from a wheel if there is none.
PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
BIN    := $(VENV)/bin
# How many processes share the tests: four more than the cores that CI has, since half of the time is waiting.
# A test that fails beside the others gets two more chances, and the summary names it.
WORKERS ?= 6
# The quick tests wait more than they work; each process collects all of them.
QUICK_WORKERS ?= 4
# Compiled modules are kept, whatever the environment says: each test that starts a command would compile newswire.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: js dist audit demo cluster page docs images test test-all delivery-versions quick check bench clean fuzz rolling setup \
        check-types check-text check-collect quick-tests

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash scripts/setup.sh
	@touch $@ $@-demo $@-cluster

$(VENV)/.ready-demo: pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash scripts/setup.sh demo
	@touch $@

$(VENV)/.ready-cluster: pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash scripts/setup.sh cluster
	@touch $@

demo: $(VENV)/.ready-demo   ## the dashboard: a server, real publishers, a page to look at; make demo PORT=8001
	$(BIN)/python -m examples.demo --port $(PORT)

cluster: $(VENV)/.ready-cluster   ## two servers on a Valkey, a page that moves between them, and a button that kills each of the three
	$(BIN)/python -m examples.cluster --port $(PORT)

APP ?= notifications
page: $(VENV)/.ready-demo   ## a small application of docs/examples.md; make page APP=room
	$(BIN)/newswire run examples.pages.$(APP):app --port $(PORT)

js: setup              ## the npm package in js/dist, and the file that Python serves; prints their sizes
	PATH="$(abspath $(BIN)):$$PATH" node js/build.mjs
	PATH="$(abspath $(BIN)):$$PATH" node js/sizes.mjs

dist: setup            ## the wheel, the sdist and their bill of materials, in dist: the same bytes wherever this commit is built
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build -d dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python scripts/sbom.py dist
	sha256sum dist/*

audit: setup           ## known faults of the packages in constraints.txt; asks the package index's advisory service
	$(BIN)/python scripts/audit.py

docs: setup            ## the docs site, in build/docs; any web server can send these files
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/docs/index.html"

images: setup          ## renews the pictures in docs/images
	PATH="$(abspath $(BIN)):$$PATH" node scripts/screenshots.mjs
	PATH="$(abspath $(BIN)):$$PATH" node scripts/screenshots_pages.mjs

test: setup            ## static checks, then the whole suite on real servers and a real browser
	$(MAKE) -j3 check-types check-text check-collect
	$(BIN)/python -m pytest -n $(WORKERS) --durations=10 --reruns 2 -raR

test-all: setup         ## the whole suite on Python 3.11 to 3.14, each in an environment of its own
	bash scripts/test_all.sh

quick: setup           ## the inner loop: the fast tests of every floor, and static checks beside them
	$(MAKE) -j3 check-types check-text quick-tests

quick-tests: setup
	$(BIN)/python -m pytest -q -n $(QUICK_WORKERS) -m "not slow and not outside"

delivery-versions: setup   ## delivery's tests on the oldest and newest uvicorn and Starlette, with delivery/fast and without
	$(BIN)/python scripts/delivery_versions.py

check: setup           ## format, lint, types, floors, spelling, plain English
	$(MAKE) -j2 check-types check-text

check-types: setup
	$(BIN)/mypy

# Imports every test once: what that compiles is there for all the processes that share the tests.
check-collect: setup
	$(BIN)/python -m pytest -q --collect-only > /dev/null || $(BIN)/python -m pytest -q --collect-only

check-text: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python scripts/prose.py
	PATH="$(abspath $(BIN)):$$PATH" node node_modules/typescript/bin/tsc -p js --noEmit

MINUTES ?= 1
fuzz: setup            ## random inputs to everything that takes bytes from strangers; make fuzz MINUTES=60
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

ROLLS ?= 10
rolling: setup         ## two servers behind nginx and Caddy, each restarted ROLLS times under load: nothing lost, no error page
	ROLLS=$(ROLLS) $(BIN)/python -m pytest -q tests/docs/test_deploy.py -k rolling

bench: setup           ## all benchmarks, in turns with the peers; renews docs/benchmarks.md; needs Linux, a C compiler, 10 minutes
	$(BIN)/python -m benchmarks --quick --write-docs

clean:
	rm -rf $(VENV) demo-data cluster-data node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/.build
