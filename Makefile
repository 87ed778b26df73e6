# Bestow's front door; `make` alone lists what there is. Everything stays in this folder (.venv, .bestow) and uv's cache.
#
#   make up ARGS="--policy Qwen/Qwen3-0.6B --no-reward --no-safety"     arguments for `bestow up`
#   make up TORCH_BACKEND=cpu                                           PyTorch's small build where there is no GPU
#   make up PYTHON=/usr/bin/python3.12                                  another Python

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
export TORCH_BACKEND

.DEFAULT_GOAL := help
.PHONY: help up install test test-all clients lint format bench bench-decoding demo-models lock config clean

help:  ## this list
	@echo 'Bestow: best-of-n serving on vLLM, chosen by a reward model, behind a safety classifier.'
	@echo
	@echo 'Start here:   make up           then paste the curl line that it prints; Ctrl-C stops everything'
	@echo
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@echo
	@echo 'Your own models:   make up ARGS="--policy Qwen/Qwen3-0.6B --no-reward --no-safety"'
	@echo 'Everything else:   .venv/bin/bestow --help'

up: install  ## install what is missing, then start Redis, vLLM, the scorers and the gateway
	@exec $(BIN)/bestow up $(ARGS)

install:  ## make .venv with all that is needed (done by the others when needed)
	@command -v $(PYTHON) >/dev/null || { echo 'Bestow needs Python 3.11 or newer, and there is no $(PYTHON). Name one: make up PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) requirements/install.py

test: lint clients  ## lint, then every test (the end-to-end ones start the real stack)
	@$(BIN)/python -m pytest -n auto -m "not slow" $(ARGS)

test-all: lint clients  ## test, and the slow ones
	@$(BIN)/python -m pytest -n auto $(ARGS)

clients: install  ## Node and other makers' clients in .venv/clients, for the tests (done by them when needed)
	@$(PYTHON) requirements/install.py --clients

lint: install  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install  ## write the code as `make lint` wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install  ## measure (tests/bench)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-decoding: install  ## measure every strategy against best-of-n, and put the table into README.md
	@$(BIN)/python -m tests.bench.decoding --write $(ARGS)

experiment-%: install  ## show it on the demo world: experiment-goodhart, and the others in training/README.md
	@$(BIN)/python -m training.experiments.$(subst -,_,$*) $(ARGS)

demo-models: install  ## train the demo models again
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m training.demo $(ARGS)

lock: install  ## resolve requirements/*.txt again
	@$(PYTHON) requirements/install.py --lock

config: install  ## write deploy/bestow.example.yaml again
	@mkdir -p deploy
	@$(BIN)/bestow config example --output deploy/bestow.example.yaml

clean:  ## remove .venv, .bestow (logs, journal, Redis data) and caches
	@rm -rf .venv .bestow tests/e2e/clients/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
