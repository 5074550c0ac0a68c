PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PIP_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
export JUPYTER_PLATFORM_DIRS ?= 1

.PHONY: help quickstart test test-fast soak coverage lint fuzz lab bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart  make the environment, run the daily notebook, print where its tear sheet is"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make test        run all tests: style, import direction, every notebook, crashes, command line"
	@echo "make test-fast   the tests of single functions, in under a minute: no notebook is run, no command line, no training"
	@echo "make soak        the tests of crashes, concurrency and memory again and again (SOAK=20 times)"
	@echo "make coverage    lines that the tests reach, compiled loops counted uncompiled; fails under 95 %"
	@echo "make lint        ruff and basedpyright"
	@echo "make fuzz        the property tests again, with examples that nobody has seen"
	@echo "make bench       measure against peers; tables on the screen and in reports/bench"
	@echo "make docs        the notebooks as pages to browse, in _docs"
	@echo "make clean       remove what can be made again; the environment, data and reports stay"
	@echo "PYTHON=python3.12 picks another Python (3.11 or newer), VENV=folder another environment,"
	@echo "PIP_FLAGS='--extra-index-url https://download.pytorch.org/whl/cpu' a torch without CUDA"

$(STAMP): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): Python 3.11 or newer is needed. Name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[jupyter,sample-data,dev]'
	@touch $@

quickstart: $(STAMP)
	$(BIN)/gnnq daily

test: $(STAMP)
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal --ignore tests/bench --durations=25

# Single functions on small data: seconds each
FAST := $(patsubst %,tests/test_%.py,settings experiment plugins signals sizers portfolio quantiles overfit ic features \
  lookahead graph cpcv sweep planted paired performance ranks cost_models store)
test-fast: $(STAMP)
	$(BIN)/python -m pytest -q $(FAST) -n $(WORKERS) --dist worksteal --durations=10

SOAK ?= 20
RESILIENCE := test_journal test_store test_trials test_runs
soak: $(STAMP)
	@set -e; for i in $$(seq $(SOAK)); do echo "== $$i of $(SOAK)"; \
	  $(BIN)/python -m pytest -q -x $(RESILIENCE:%=tests/%.py) -n $(WORKERS) --dist worksteal; done

# Notebooks and the day run in processes of their own and are left out; loops for numba run as Python, which is slow
UNCOUNTED := test_notebooks test_end_to_end test_cli test_line test_packaging test_outputs
coverage: $(STAMP)
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m coverage run --source gnn_quant --omit 'gnn_quant/_modidx.py' \
	  -m pytest -q tests --ignore tests/bench $(UNCOUNTED:%=--ignore tests/%.py)
	$(BIN)/python -m coverage report --skip-covered --fail-under=95

lint: $(STAMP)
	$(BIN)/ruff check gnn_quant tests .ci nbs
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fuzz: $(STAMP)
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal --ignore tests/bench -m hypothesis --hypothesis-profile=fuzz

lab: $(STAMP)
	$(BIN)/jupyter lab nbs

bench: $(STAMP)
	@set -e; for f in tests/bench/[!_]*.py; do echo "== $$f"; $(BIN)/python $$f; done

docs: $(STAMP)
	$(BIN)/python .ci/docs.py _docs

clean:
	rm -rf _docs build dist gnn_quant.egg-info .pytest_cache .hypothesis
	find gnn_quant tests nbs .ci -name __pycache__ -prune -exec rm -rf {} +
	find nbs -name .ipynb_checkpoints -prune -exec rm -rf {} +
