PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PIP_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
export JUPYTER_PLATFORM_DIRS ?= 1

.PHONY: help quickstart test fuzz lab bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart  make the environment, run the daily notebook, print where its tear sheet is"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make test        run all tests: style, import direction, every notebook, crashes, command line"
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
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal --ignore tests/bench

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
