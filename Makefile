# Everything that one does with a checkout. `make` alone lists it.

# The interpreter that the environment is made with, and port and processes of the demo: make demo PYTHON=python3.13
# PORT=9000 WORKERS=3
PYTHON ?= python3
PORT ?= 8080
WORKERS ?= 1

# How long `make soak`, `make chaos` and `make fuzz` go on, and where the first two begin; without a seed anywhere.
SECONDS ?= 60
SEED ?=

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# npm and Chromium write below HOME, and some build machines have none.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/$(VENV)/home
endif

# One environment, filled in steps: each stamp is touched when its step is complete.
CREATED := $(VENV)/.created
SITE := $(VENV)/.site
REDIS := $(VENV)/.redis
TOOLS := $(VENV)/.tools
FUZZ := $(VENV)/.fuzz
NODE := $(VENV)/.node
MODULES := node_modules/.package-lock.json

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint bench mutants soak chaos fuzz clean

help:
	@echo "make demo    serve the demo at http://127.0.0.1:$(PORT) (another port, several processes on a Redis:"
	@echo "             make demo PORT=9000 WORKERS=3)"
	@echo "make test    run every test: Python, JavaScript, in Chromium, behind nginx, on Redis"
	@echo "make lint    check style and types, and audit what pagews is built on"
	@echo "make mutants put known faults into the core, which the tests must catch"
	@echo "make soak    run random histories of the core for a minute (make soak SECONDS=600 SEED=7)"
	@echo "make chaos   break workers, lines and Redis for a minute (make chaos SECONDS=600 SEED=7)"
	@echo "make fuzz    send hostile input to all that reads some, led by coverage (make fuzz SECONDS=600)"
	@echo "make bench   measure against plain aiohttp, python-socketio and channels_redis"
	@echo "make clean   remove what the others have made"

demo: $(SITE) $(if $(filter-out 1,$(WORKERS)),$(REDIS))
	@echo "The demo: http://127.0.0.1:$(PORT) (another port: make demo PORT=9000; Ctrl-C ends it)"
	@exec python -m demo --port $(PORT) --workers $(WORKERS)

test: system $(TOOLS) $(NODE)
	python -m pytest

lint: $(TOOLS) $(NODE) $(MODULES)
	ruff check .
	ruff format --check .
	mypy
	node_modules/.bin/tsc -p tsconfig.json
	node_modules/.bin/tsc -p demo/tsconfig.json
	python -m tools.audit

bench: $(TOOLS)
	python -m benchmarks

mutants: $(TOOLS)
	python -m tools.mutants

soak: $(TOOLS)
	@python -m tools.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

chaos: $(TOOLS)
	@$(PYTHON) -m tools.system redis-server
	@python -m tools.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

fuzz: $(FUZZ)
	@python -m tools.fuzz --seconds $(SECONDS)

clean:
	rm -rf $(VENV) node_modules build dist pagews.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All at once, so that whoever has to install them by hand is told so once.
.PHONY: system
system:
	@$(PYTHON) -m tools.system venv chromium nginx redis-server iproute2

$(CREATED):
	@$(PYTHON) -m tools.system venv
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(SITE): setup.cfg pyproject.toml | $(CREATED)
	python -m pip install --quiet --editable .
	@touch $@

$(REDIS): setup.cfg | $(SITE)
	python -m pip install --quiet --editable '.[redis]'
	@touch $@

$(TOOLS): setup.cfg pyproject.toml | $(CREATED)
	python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(FUZZ): setup.cfg | $(TOOLS)
	python -m pip install --quiet --editable '.[fuzz]'
	@touch $@

$(NODE): setup.cfg | $(TOOLS)
	@python -c 'from tools.programs import find_node; raise SystemExit(find_node() is None)' \
		|| python -m pip install --quiet --editable '.[node]'
	@touch $@

$(MODULES): package.json package-lock.json | $(NODE)
	npm ci --no-audit --no-fund --no-update-notifier
	@touch $@
