# Each target works from a bare clone: it makes its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
PIPFLAGS ?=
# One thread a process: two processes of two threads are slower than one. Each begins with its share
# of the files in their order, whose tests have fixtures in common; who is done takes from the others.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

.PHONY: demo test test-slow test-long test-all test-browser test-notebooks lint site

demo: $(VENV)/installed
	$(VENV)/bin/mld run benchmarks/digits.yaml

test: $(VENV)/installed-dev
	$(PYTEST)

test-slow: $(VENV)/installed-dev
	$(PYTEST) -m "slow and not long"

test-long: $(VENV)/installed-dev
	$(PYTEST) -m long

test-all: $(VENV)/installed-pages
	$(PYTEST) -m "slow or not slow"

# Needs Chromium: CHROMIUM=/path/to/it, if it is not found.
test-browser: $(VENV)/installed-pages
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m browser

test-notebooks: $(VENV)/installed-pages
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
	$(VENV)/bin/pip install --quiet $(PIPFLAGS) --editable '.[builtin]'
	touch $@

$(VENV)/installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet $(PIPFLAGS) --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-pages: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet $(PIPFLAGS) --editable '.[pages]'
	touch $@ $(VENV)/installed-dev $(VENV)/installed
