# One door to everything. On a fresh machine with Python 3.11 or newer:
#
#     make quickstart     fine-tune a small model and look at the result
#     make test           run every test
#
# Both make their own environment in .venv, with the versions in constraints.txt.
# `make help` lists the rest. Set on the command line: PYTHON (the interpreter that makes the
# environment), VENV (where), ARGS (further options for the tool that is run), TORCH (see below).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?=
VENV ?= .venv
ARGS ?=
JOBS ?= 2

BIN := $(VENV)/bin
PROJECTS := $(wildcard loops_*/pyproject.toml)
MEMBERS := $(PROJECTS:%/pyproject.toml=./%)
PINNED := --constraint constraints.txt

UV := $(shell command -v uv 2>/dev/null)
ifneq ($(UV),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
endif

# Torch is used by tests that compare with it, by nothing else. On Linux the package index serves a build
# that brings several GB of CUDA libraries, so only a wheel marked +cpu is taken there, where one is
# offered (a find-links folder, an extra index); without it those tests are skipped.
# TORCH=torch takes any build, TORCH= takes none.
TORCH_PIN := $(shell sed -n 's/^torch==//p' constraints.txt)
ifeq ($(shell uname -s),Linux)
TORCH ?= torch==$(TORCH_PIN)+cpu
else
TORCH ?= torch==$(TORCH_PIN)
endif

.PHONY: help quickstart test test-fast format lint imports types docs check flake bench mutants clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  %-12s%s\n", $$1, $$2}'

quickstart: $(VENV)/.stamp-quickstart  ## fine-tune the built-in model, save, resume, sample
	$(BIN)/loops quickstart $(ARGS)

test: $(VENV)/.stamp-dev  ## run every test
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-fast: $(VENV)/.stamp-dev  ## run the tests not marked slow
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

format: $(VENV)/.stamp-dev  ## format the code, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.stamp-dev  ## check format and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

imports: $(VENV)/.stamp-dev  ## check who imports whom
	$(BIN)/lint-imports

types: $(VENV)/.stamp-dev  ## check types
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.stamp-dev  ## build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: format imports types test docs  ## everything a change has to pass

flake: $(VENV)/.stamp-dev  ## run the contract on the mock under 200 seeds, and say which failed
	$(BIN)/python tools/flake.py $(ARGS)

bench: $(VENV)/.stamp-dev  ## measure import time and the cost of one operation
	$(BIN)/python tools/bench.py $(ARGS)

mutants: $(VENV)/.stamp-dev  ## count how many seeded faults the contract finds
	$(BIN)/python -m tests.mutants $(ARGS)

clean:  ## remove caches and built things
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf $(VENV)

# The environment. A stamp is younger than all it was made from, so a second run installs nothing.

$(VENV)/.stamp-venv: tools/make_venv.sh
	tools/make_venv.sh $(VENV) $(PYTHON)
	@touch $@

# What builds the members is pinned like everything else, hence no isolated builds below.
$(VENV)/.stamp-build: $(VENV)/.stamp-venv constraints.txt
	$(INSTALL) $(PINNED) pip hatchling editables
	@touch $@

$(VENV)/.stamp-quickstart: $(VENV)/.stamp-build pyproject.toml $(PROJECTS)
	@echo "installing what the quickstart needs into $(VENV)"
	$(INSTALL) $(PINNED) --no-build-isolation -e ./loops_core -e ./loops_backend_jax -e ".[jax]"
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-build pyproject.toml $(PROJECTS)
	@echo "installing everything into $(VENV)"
	$(INSTALL) $(PINNED) --no-build-isolation --group dev $(addprefix -e ,$(MEMBERS)) -e ".[all]"
	@test -z "$(TORCH)" || $(INSTALL) $(PINNED) "$(TORCH)" >$(VENV)/torch.log 2>&1 || \
		echo "$(TORCH) is not to be had here (see $(VENV)/torch.log): tests that need it will be skipped"
	@touch $@ $(VENV)/.stamp-quickstart
