# `make demo` and `make test` do all the set-up by themselves; they need Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready
DEMO_OUT ?= demo-run
# Two test processes of one thread each are faster on two cores than one process of two threads.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:
	@echo "make demo     pretrain, adapt, parse and evaluate on the bundled treebanks, into $(DEMO_OUT)/"
	@echo "make test     lint, types and all tests"
	@echo "make lint     ruff and mypy"
	@echo "make format   let ruff rewrite the code"
	@echo "make bench    a short look at the speed; benchmarks/README.md has the rest"
	@echo "make clean    remove the environment and everything generated"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "parser-vae needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/parser-vae demo --out $(DEMO_OUT) --overwrite

test: lint
	$(ONE_THREAD) $(RUN) pytest -n 2 --dist worksteal

lint: $(READY)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: $(READY)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(READY)
	$(ONE_THREAD) $(VENV)/bin/python benchmarks/structures.py --jobs eisner,arborescence --n 10,20,40
	$(ONE_THREAD) $(VENV)/bin/python benchmarks/read_conllu.py data/tiny-source/train.conllu

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
