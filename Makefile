# Every target does its own set-up: uv, a Python 3.12 that runs, the locked packages and the GL libraries.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: help setup quickstart quickstart-short test test-slow lint bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' Makefile

setup: .venv/.ready ## .venv with the locked packages, and what rendering needs

.venv/.ready: requirements.lock pyproject.toml setup.sh
	@bash setup.sh
	@touch $@

quickstart: setup ## demonstrations, training, evaluation and a report in runs/quickstart, at most 20 minutes on 2 cores
	$(RUN) vla quickstart --out runs/quickstart

quickstart-short: setup ## the same path in a few minutes; too short to learn the task
	$(RUN) vla quickstart --short --out runs/quickstart-short

test: setup ## fast tests
	$(RUN) pytest

test-slow: setup ## the long ones too
	$(RUN) pytest -m "not gpu"

lint: setup ## ruff and pyright
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) pyright

bench: setup ## every benchmark, one JSON line each
	@for script in benchmarks/*.py; do $(RUN) python $$script || exit 1; done

lock: ## compile requirements.lock anew from pyproject.toml
	PATH="$$PATH:$$(python3 -m site --user-base)/bin" uv pip compile pyproject.toml --extra dev --extra offline --generate-hashes --python-version 3.12 -q --no-emit-index-url --no-header -o requirements.lock

clean: ## remove the environment and what runs wrote
	rm -rf .venv runs
