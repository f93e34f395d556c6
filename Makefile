# Each target sets up what it needs: Python 3.10 or newer, git and make are enough.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
# MLX for Linux brings a slow BLAS of its own; with OpenBLAS, where a machine has it, its products are 30 times faster.
OPENBLAS := $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/libopenblas.so.0 /usr/lib64/libopenblas.so.0))

.DEFAULT_GOAL := help
.PHONY: help env demo test check bench shakespeare

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

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

# A recipe is an experiment: on a GPU, or RECIPE=shakespeare_cpu on two cores. What was interrupted goes on.
RECIPE ?= shakespeare
RUNS := runs/$(RECIPE)
train = $(BIN)/tzd train experiment=$(2) training.run_folder=$(RUNS)/$(1) $(3) $(ARGS) \
	$(if $(wildcard $(RUNS)/$(1)/last),training.resume=true)

shakespeare: $(READY)  ## train the recipe, its autoregressive baseline and block diffusion, and report (RECIPE=, ARGS=)
	$(call train,denoiser,$(RECIPE))
	$(call train,ar,$(RECIPE)_ar)
	$(call train,blocks-16,$(RECIPE)_ar,objective.block_len=16)
	$(call train,blocks-4,$(RECIPE)_ar,objective.block_len=4)
	$(BIN)/tzd report $(RUNS)/denoiser --judge $(RUNS)/ar --beside $(RUNS)/blocks-16,$(RUNS)/blocks-4 --out $(RUNS)/report

$(READY): pyproject.toml $(filter .uv/%,$(UV))
	$(UV) sync --all-extras || $(UV) sync --all-extras --no-extra mlx  # MLX has no build for older systems
	@touch $@

# Some systems ship Python without ensurepip: then `venv` fails, and pip installs into a plain folder.
.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/python -m pip install -q uv \
	|| { rm -rf .uv && python3 -m pip install -q --target .uv uv; }
