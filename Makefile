# Each target works from a bare clone: it makes its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
# A test file per process, one thread each: two processes of two threads are slower than one.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: demo test test-slow test-all test-browser test-notebooks lint site

demo: $(VENV)/installed
	$(VENV)/bin/mld run benchmarks/digits.yaml

test: $(VENV)/installed-dev
	$(PYTEST)

# Few tests, long ones: each process takes the next that waits.
test-slow: $(VENV)/installed-dev
	$(PYTEST) -m "slow and not long" --dist=worksteal

test-all: $(VENV)/installed-dev
	$(PYTEST) -m "slow or not slow"

# Needs Chromium: CHROMIUM=/path/to/it, if it is not found.
test-browser: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m browser

test-notebooks: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m notebook

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

# The documentation in build/site; a warning, or a link that leads nowhere, is an error. (With --quiet,
# MkDocs does not count warnings.)
site: $(VENV)/installed-dev
	$(VENV)/bin/mkdocs build
	$(VENV)/bin/python docs/hooks/check_site.py build/site

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[builtin]'
	touch $@

$(VENV)/installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed
