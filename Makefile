# Each target sets up what it needs: Python 3.10 or newer, git and make are enough.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready
PYTHON ?= 3.12
EMPTY := .venv/empty-$(PYTHON)
SHA256 := $(if $(shell command -v sha256sum),sha256sum,shasum -a 256)
WORKERS ?= 2
# MLX for Linux brings a slow BLAS of its own; with OpenBLAS, where a machine has it, its products are 30 times faster.
OPENBLAS := $(firstword $(wildcard /usr/lib/$(shell uname -m)-linux-gnu/libopenblas.so.0 /usr/lib64/libopenblas.so.0))

.DEFAULT_GOAL := help
.PHONY: help env demo test coverage messages test-faults fuzz mutants load check bench audit installed release shakespeare

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

env: $(READY)  ## everything, all extras, into .venv

demo: $(READY)  ## train a small model on this machine and watch it write
	$(BIN)/tzd demo

test: $(READY)  ## the tests (WORKERS=2 processes; ARGS="-k name" picks some)
	LD_PRELOAD=$(OPENBLAS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

test-faults: $(READY)  ## runs killed 200 times on each engine and resumed (ARGS="--kills 20 --engine mlx --seed 3" picks)
	LD_PRELOAD=$(OPENBLAS) PYTHONPATH=tests:. OMP_NUM_THREADS=1 $(BIN)/python -m faults.kills $(ARGS)

# What a process that is killed has run is not counted.
coverage: $(READY)  ## the tests, and the share of lines that they run, 95% at least (ARGS as for test)
	rm -rf .coverage && mkdir .coverage
	LD_PRELOAD=$(OPENBLAS) OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

messages: $(READY)  ## what no test states of the messages that a user may get
	$(BIN)/python tests/messages.py

fuzz: $(READY)  ## hostile files, 100,000 of them (ARGS="--reader trace --seed 1" picks)
	PYTHONPATH=tests:. OMP_NUM_THREADS=1 $(BIN)/python -m fuzz $(ARGS)

mutants: $(READY)  ## change the code in 7,000 ways, and count which ones the tests notice (ARGS="--sample 200" draws some)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(ARGS)

load: $(READY)  ## the page with 50 clients, most of whom behave badly, for ten minutes (ARGS="--seconds 60 --clients 20")
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/web/load.py $(ARGS)

check: $(READY)  ## layout, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY)  ## measure against a plain baseline (ARGS="train --engine mlx" picks)
	@set -e; if [ -n "$(ARGS)" ]; then $(BIN)/tzd bench $(ARGS); \
	else for what in train sample startup corpus; do $(BIN)/tzd bench $$what; done; fi

# A recipe is an experiment: on a GPU, or RECIPE=shakespeare_cpu on two cores. What was interrupted goes on, and what is
# trained stays as it is, whatever ARGS say.
RECIPE ?= shakespeare
RUNS := runs/$(RECIPE)
define train
$(if $(wildcard $(RUNS)/$(1)/finished),@echo "$(RUNS)/$(1) is trained; remove it to train it anew",$(BIN)/tzd train \
experiment=$(2) training.run_folder=$(RUNS)/$(1) $(3) $(ARGS) $(if $(wildcard $(RUNS)/$(1)/step-*),training.resume=true))
endef

shakespeare: $(READY)  ## train the recipe, its autoregressive baseline and block diffusion, and report (RECIPE=, ARGS=)
	$(call train,denoiser,$(RECIPE))
	$(call train,ar,$(RECIPE)_ar)
	$(call train,blocks-16,$(RECIPE)_ar,objective.block_len=16)
	$(call train,blocks-4,$(RECIPE)_ar,objective.block_len=4)
	$(BIN)/tzd report $(RUNS)/denoiser --judge $(RUNS)/ar --beside $(RUNS)/blocks-16,$(RUNS)/blocks-4 --out $(RUNS)/report

audit: $(READY)  ## all dependencies against known vulnerabilities; fails where none can be looked up
	$(UV) export --quiet --frozen --all-extras --no-emit-project --output-file .venv/dependencies.txt
	$(UV) tool run --python $(BIN)/python --from 'pip-audit>=2.9,<3' pip-audit --strict --progress-spinner off \
	  --disable-pip --require-hashes --requirement .venv/dependencies.txt

installed: $(filter .uv/%,$(UV))  ## the wheel in an empty environment (PYTHON=3.12 picks one)
	rm -rf $(EMPTY) && $(UV) venv --quiet --no-project --python $(PYTHON) $(EMPTY)
	$(UV) build --quiet --wheel --out-dir $(EMPTY)/wheel
	$(UV) pip install --quiet --python $(EMPTY)/bin/python $(EMPTY)/wheel/*.whl
	$(EMPTY)/bin/python tests/installed.py

# The date of the commit stands in for the time, so that whoever builds the commit again gets the same bytes.
release: $(READY)  ## wheel, sdist, dependencies (SBOM) and checksums of the last commit, in dist/
	@test -z "$$(git status --porcelain)" || { echo "commit first: a release is made of what is committed" >&2; exit 1; }
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(UV) build --quiet --out-dir dist
	$(UV) export --quiet --frozen --no-dev --all-extras --format cyclonedx1.5 --preview-features sbom-export \
	  --output-file dist/sbom.cdx.json > /dev/null
	cd dist && $(SHA256) *.whl *.tar.gz *.json > SHA256SUMS

# MLX has no build for older systems.
$(READY): pyproject.toml $(filter .uv/%,$(UV))
	$(UV) sync --all-extras || $(UV) sync --all-extras --no-extra mlx
	@touch $@

# Some systems ship Python without ensurepip: then `venv` fails, and pip installs into a plain folder.
.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/python -m pip install -q uv \
	|| { rm -rf .uv && python3 -m pip install -q --target .uv uv; }
