# Two commands for a fresh machine with Python 3.10 or newer: `make demo` and `make test`.
PYTHON ?= python3
WORKERS ?= 2

ifeq ($(OS),Windows_NT)
SHELL := bash
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
# One thread for each worker: torch would otherwise start as many as there are cores, in each of them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

.PHONY: help demo test test-all lint docs wheel clean

help:
	@echo "make demo      score the faces in examples/faces/; writes demo/scores.csv and demo/faces.png"
	@echo "make test      run the tests"
	@echo "make test-all  run the slow tests too, and with DIFFIQA_SHARED set those that need the shared data"
	@echo "make lint      check the code with ruff, and its types with mypy"
	@echo "make docs      build the documentation into site/; open site/index.html"
	@echo "make wheel     build the wheel into dist/"
	@echo "make clean     remove what these commands made, .venv included"
	@echo "PYTHON=... picks the interpreter that makes .venv, WORKERS=... how many tests run at once"

# A stamp says which set of packages .venv has; a change of the pins or of pyproject.toml makes it stale.
.venv/.core: extras :=
.venv/.test: extras := [test]
.venv/.docs: extras := [docs]
.venv/.core .venv/.test .venv/.docs: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "diffiqa_hf needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".$(extras)"
	@touch $@

demo: .venv/.core
	@mkdir -p demo
	@rm -f demo/scores.csv demo/scores.csv.settings.json
	@$(BIN)/diffiqa score examples/faces --output demo/scores.csv --plot demo/faces.png

test: .venv/.test
	$(PYTEST)

test-all: .venv/.test
	$(PYTEST) --run-slow

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: .venv/.core
	rm -rf build
	$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv build dist demo site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
