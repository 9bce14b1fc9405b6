# make run    sets up .venv and runs the batching study
# make test   sets up .venv and passes the tests
# make bench  measures speed and memory, and passes the tests that a busy machine would fail
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test lint bench clean

setup: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: setup
	$(BIN)/python -m experiments.run batching_sweep.yaml

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m pytest -m wallclock
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv results build *.egg-info
