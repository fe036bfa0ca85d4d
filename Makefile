# Three jobs, each complete on a fresh machine with Python 3.11 and a package index:
#   make demo    measure this machine, search under a latency target, measure what was found
#   make check   lint, types, stages, and the fast tests: three minutes
#   make test    lint, types, stages, and every test

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Paddle-Lite's wheels end at CPython 3.10; without one, what needs Paddle-Lite is skipped and says so.
PYTHON310 ?= $(firstword $(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null) $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python))
LITE := $(if $(PYTHON310),.venv-lite/installed)

.PHONY: demo check lint test clean

demo: $(VENV)/installed
	$(BIN)/python examples/search_digits.py $(ARGS)

lint: | $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests of a file share what they set up, and run in one process.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

check: lint
	$(BIN)/pytest $(PARALLEL) -m "not slow" $(ARGS)

test: $(VENV)/installed $(LITE) lint
	$(BIN)/pytest $(PARALLEL) $(ARGS)

# torch is installed first and by its exact version; otherwise gigabytes of CUDA packages are downloaded.
$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv-lite/installed:
	$(PYTHON310) -m venv .venv-lite
	.venv-lite/bin/pip install --quiet --disable-pip-version-check paddlelite==2.13rc0 "numpy<2"
	touch $@

clean:
	rm -rf $(VENV) .venv-lite runs
