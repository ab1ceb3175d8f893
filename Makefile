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

.PHONY: setup run test check bench bench-search bench-envs mutants docs clean

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
	@echo 'compiling the search, once'; $(BIN)/branchwise bench branchwise/WebShop-v0 --agent mcts --goals 1 --option products=100 > /dev/null
	@touch $@
	@echo 'ready: make run, or source $(VENV)/bin/activate and branchwise --help'

run: setup
	$(BIN)/branchwise loop '$(CONFIG)' --out '$(RUN)'

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# Doctests have kernels of their own: pytest imports the package under the name of the folder, and kernels that were cached under one
# name cannot be read under another.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	NUMBA_CACHE_DIR=$(VENV)/doctests $(BIN)/python -m pytest --quiet --doctest-modules --pyargs branchwise.envs branchwise.search

# Each benchmark compares with its peers in one run and writes benchmarks/results/<name>.json. Not among them: learning.py and
# leaves_in_flight.py, which take most of an hour and ten minutes.
bench: bench-search bench-envs
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/web_shop.py
	$(BIN)/python benchmarks/credit.py

bench-search: setup
	$(BIN)/python benchmarks/search.py

bench-envs: setup
	$(BIN)/python benchmarks/envs.py
	$(BIN)/python benchmarks/negotiation.py
	$(BIN)/python benchmarks/math_tool.py
	$(BIN)/python benchmarks/environments.py

# Is each line of the core files held by a test? About an hour on two cores; runs/mutants.jsonl keeps what is done.
mutants: setup
	$(BIN)/python tests/mutants.py --count 200 --seed $(or $(SEED),1)

docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info
