# make run    sets up .venv, without torch and test tools, and runs the batching study
# make quick  sets up as much of .venv, and runs nothing
# make test   sets up .venv and passes the tests
# make pure   passes the tests of sim without the compiled engine
# make bench  measures speed and memory, and passes the tests that a busy machine would fail
PYTHON ?= python3
BIN := .venv/bin

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e
COMPILE := $(BIN)/python -m compileall -q experiments hardware model sim workloads

.PHONY: quick setup compile run test pure lint bench clean

# A .venv that is a link is set up in the checkout that it leads to.
linked := $(shell test -L .venv && echo linked)

# With torch and all that the tests use.
setup: $(if $(linked),,.venv/.complete)

.venv/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[dev]'
	$(COMPILE)
	touch $@

# What studies of serving, plans and pages need: no torch, no test tools.
quick: $(if $(linked),,$(if $(wildcard .venv/.complete),.venv/.complete,.venv/.quick))

.venv/.quick: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[explore]'
	$(COMPILE)
	touch $@

compile: setup hardware/compiled.sha256

hardware/compiled.sha256: setup.py hardware/steps/prices.py hardware/steps/joint_prices.py $(wildcard sim/engine/*.py sim/engine/*/*.py sim/seen/*.py sim/traffic/*.py)
	$(BIN)/python setup.py build_ext --inplace

run: quick
	$(BIN)/python -m experiments.run batching_sweep.yaml

test: compile
	$(BIN)/python -m pytest -n auto --dist loadfile

pure: setup
	HEADROOM_PURE=1 $(BIN)/python -m pytest -n auto --dist loadfile tests/sim

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: compile
	$(BIN)/python -m pytest -m wallclock
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv results build *.egg-info
	rm -f *.so hardware/steps/*.so sim/engine/*.so sim/engine/*/*.so sim/seen/*.so sim/traffic/*.so hardware/compiled.sha256
