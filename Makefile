# Everything a fresh machine with Python 3.11 or newer and make needs: `make demo`, `make test`, `make docs`.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# small networks are fastest on one thread, and results are promised bit for bit on one
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types tests slow docs bench benchmarks clean

demo: $(STAMP)
	$(BIN)/python -m metaest_domains.physiology theophylline --output demo

test: lint types tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/meta_steps.py
	$(BIN)/python tests/benchmarks/images.py
	$(BIN)/python tests/benchmarks/serving.py
	$(BIN)/python tests/benchmarks/growth.py

benchmarks: $(STAMP)
	$(BIN)/python docs/benchmarks/latency.py
	$(BIN)/python docs/benchmarks/modules.py
	$(BIN)/python docs/benchmarks/pooled.py
	$(BIN)/python docs/benchmarks/variants.py
	$(BIN)/python docs/benchmarks/sinusoid.py --frequency 1
	$(BIN)/python docs/benchmarks/sinusoid.py --frequency 0.8 1.2
	$(BIN)/python docs/benchmarks/implicit_memory.py
	$(BIN)/python docs/benchmarks/feature_reuse.py
	$(BIN)/python docs/benchmarks/quadratic_tasks.py
	$(BIN)/python docs/benchmarks/equations_accuracy.py
	$(BIN)/python docs/benchmarks/equations_simulated.py
	$(BIN)/python docs/benchmarks/equations_speed.py
	$(BIN)/python docs/benchmarks/kinetics_examples.py
	$(BIN)/python docs/benchmarks/integrators.py
	$(BIN)/python docs/benchmarks/integrators.py --fits
	$(BIN)/python docs/benchmarks/theophylline.py
	$(BIN)/python docs/benchmarks/guard.py
	$(BIN)/python docs/benchmarks/conformal.py
	$(BIN)/python docs/benchmarks/imbalance.py
	$(BIN)/python docs/benchmarks/interruptions.py kills
	$(BIN)/python docs/benchmarks/interruptions.py ctrl-c
	$(BIN)/python docs/benchmarks/interruptions.py memory
	$(BIN)/python docs/benchmarks/perovskites.py
	$(BIN)/python docs/benchmarks/omniglot.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaest needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev,docs,plots,fetch,compile,trading,serve]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
