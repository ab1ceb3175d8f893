# Everything below makes .venv first if it is missing. `make run` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where torch alone is taken from. Empty: the registry that pip is set up for. On Linux its builds carry CUDA (several GB):
# `make run TORCH_INDEX=…` with PyTorch's index of CPU builds is smaller.
TORCH_INDEX ?=
CONFIG ?= web_shop
RUN ?= runs/$(CONFIG)

export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: setup run test check bench docs clean

setup: $(VENV)/.ready

# torch goes first and by itself, under the constraint: asked for by another package, pip would take a newer one
# with CUDA's wheels.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "branchwise needs Python 3.11 or newer; name one: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: setup
	$(BIN)/branchwise loop $(CONFIG) --out $(RUN)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet --doctest-modules --pyargs branchwise.envs branchwise.search

bench: setup
	@for file in benchmarks/*.py; do case $$file in *learning.py) ;; *) $(BIN)/python $$file || exit 1 ;; esac; done

docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info
