# Each target sets up what it needs: Python 3.10 or newer, git and make are enough.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
# MLX for Linux brings a slow BLAS of its own; with OpenBLAS, where a machine has it, its products are 30 times faster.
OPENBLAS := $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/libopenblas.so.0 /usr/lib64/libopenblas.so.0))

.DEFAULT_GOAL := help
.PHONY: help env demo test check bench

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

env: $(READY)  ## everything, all extras, into .venv

demo: $(READY)  ## train a small model on this machine and watch it write
	$(BIN)/tzd demo

test: $(READY)  ## the tests (WORKERS=2 processes; ARGS="-k name" picks some)
	LD_PRELOAD=$(OPENBLAS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: $(READY)  ## layout, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY)  ## measure against a plain baseline (ARGS="train --engine mlx" picks)
	@set -e; if [ -n "$(ARGS)" ]; then $(BIN)/tzd bench $(ARGS); \
	else for what in train sample startup corpus; do $(BIN)/tzd bench $$what; done; fi

$(READY): pyproject.toml $(filter .uv/%,$(UV))
	$(UV) sync --all-extras || $(UV) sync --all-extras --no-extra mlx  # MLX has no build for older systems
	@touch $@

# Some systems ship Python without ensurepip: then `venv` fails, and pip installs into a plain folder.
.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/python -m pip install -q uv \
	|| { rm -rf .uv && python3 -m pip install -q --target .uv uv; }
