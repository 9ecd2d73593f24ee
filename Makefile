# make run    install into .venv and run a cluster of three on this machine
# make test   install into .venv and run every test            (ARGS="-k name -x" goes to pytest)
# make histories DIR=folder   say of each recorded history in it whether it is linearizable
# make check  format, lint, types, import rules and sizes: what has to hold before a commit
# make sim    clusters of cores among faults, from seeds, on all cores      (SEEDS=0:2000)
# make mutants  mistakes put in on purpose: is each still found?   (FIND=1 searches for them anew)
# make bench  the figures beside etcd's, about an hour and a quarter  (QUICK=1: ten minutes; ONLY=put,dns)
# make clients  real clients of Consul and their own tests, one line each (ARGS="--only patroni --long")
# make soak   the long version of everything, and an hour of full load: two hours and more
# make wheels does every dependency have a wheel for each Python that hstore allows?
# make fmt    rewrite the code as `make check` wants it
# make types  links through which type checkers find the packages
#
# Nothing has to be there but make, a Python from 3.11 to 3.14 and the package index.
# PYTHON=/path/to/python3.12 chooses the Python that .venv is made with.

.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: run test sim mutants histories bench clients soak check wheels fmt types

BIN := .venv/bin
PYTHON ?=
# Tried in this order when PYTHON is not given: the machine's default first, then the newest.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)

ARGS ?=

run: .venv/installed
	$(BIN)/hstore demo

# `pytest`, never `python -m pytest`: that puts this folder on the import path, where `dns/`
# would stand before dnspython.
# On all cores; see `_OneProcessPerFile` in tests/conftest.py for what stays together.
# One more than there are cores: tests with real processes wait more than they work.
WORKERS := $(shell expr $$(nproc 2>/dev/null || sysctl -n hw.ncpu) + 1)

test: .venv/installed-dev
	$(BIN)/pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

DIR ?= ../shared/data/histories

histories: .venv/installed-dev
	@$(BIN)/python -m tests.histories "$(DIR)"

check: .venv/installed-dev types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p hstore -p tests
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_tidy.py

SEEDS ?= 0:2000
sim: .venv/installed-dev
	$(BIN)/python -m tests.sim --seeds $(SEEDS)

FIND ?=
mutants: .venv/installed-dev
	$(BIN)/python -m tests.mutants $(if $(FIND),--find)

QUICK ?=
ONLY ?=
bench: .venv/installed-dev
	@$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(ARGS)

# What they need is installed into a folder of the user's cache: see tests/clients/cache.py.
clients: .venv/installed-dev
	@$(BIN)/python -m tests.clients $(ARGS)

# One line a part: cores from many seeds, whole nodes, the gallery, histories, snapshots in full size.
# The first that fails ends it. Other seeds than every test run has.
soak: .venv/installed-dev
	$(BIN)/python -m tests.sim --seeds 100000:140000
	$(BIN)/python -m tests.sim.whole --seeds 1000:2000
	$(BIN)/python -m tests.mutants
	$(if $(wildcard $(DIR)),$(BIN)/python -m tests.histories "$(DIR)")
	$(BIN)/pytest -o faulthandler_timeout=5400 tests/soak $(ARGS)

wheels: .venv/installed-dev
	@$(BIN)/python -m tests.wheels

fmt: .venv/installed-dev
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

# Type checkers do not run the import hook of an editable install; they follow these links.
types: .types/hstore/node .types/hstore/dns .types/hstore/cli

.types/hstore/%:
	@mkdir -p .types/hstore
	ln -sfn ../../$* $@

# pip comes last into a new .venv, so its presence says that the making was not interrupted.
$(BIN)/pip:
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; \
	    then \
	        echo "$$python -m venv .venv"; \
	        $$python -m venv --clear .venv && exit 0; \
	        rm -rf .venv; \
	        echo "make: $$python cannot make a virtual environment;" \
	            "on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	done; \
	echo "make: hstore needs Python 3.11, 3.12, 3.13 or 3.14, and none of these is one: $(PYTHONS)." \
	    "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

# Installed again when the dependencies, the packages or the commands may have changed.
.venv/installed: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/installed
