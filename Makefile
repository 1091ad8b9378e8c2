# Targets that set up everything they need; a machine needs only Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint docs bench clean

demo: .venv/installed
	$(BIN)/bayes-rpp demo --out demo

# Some tests ask for equal bits: matrix products must not depend on the alignment of memory.
PYTEST := MKL_CBWR=AVX2,STRICT OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

test: .venv/installed-test lint
	$(PYTEST)

# With the tests of tests/long_tests.txt: chains against exact posteriors, notebooks, scripts of the paper.
test-all: .venv/installed-test lint
	$(PYTEST) --long

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Warnings are errors: a dead link, a page that is not in the navigation, a docstring that cannot be read. The tests
# build the site in the same way.
docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/installed-test
	$(BIN)/python tests/benchmarks/all.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \"bayes_rpp needs Python 3.11 or newer; set PYTHON=\")"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv build demo site *.egg-info
