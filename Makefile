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
	$(BIN)/python tests/architecture.py

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/speed/meta_steps.py
	$(BIN)/python tests/benchmarks/speed/images.py
	$(BIN)/python tests/benchmarks/speed/serving.py
	$(BIN)/python tests/benchmarks/speed/growth.py
	$(BIN)/python tests/benchmarks/speed/mixed_models.py

benchmarks: $(STAMP)
	$(BIN)/python tests/benchmarks/speed/latency.py
	$(BIN)/python tests/benchmarks/speed/modules.py
	$(BIN)/python tests/benchmarks/speed/heads.py
	$(BIN)/python tests/benchmarks/accuracy/pooled.py
	$(BIN)/python tests/benchmarks/accuracy/variants.py
	$(BIN)/python tests/benchmarks/accuracy/sinusoid.py --frequency 1
	$(BIN)/python tests/benchmarks/accuracy/sinusoid.py --frequency 0.8 1.2
	$(BIN)/python tests/benchmarks/speed/implicit_memory.py
	$(BIN)/python tests/benchmarks/accuracy/feature_reuse.py
	$(BIN)/python tests/benchmarks/accuracy/quadratic_tasks.py
	$(BIN)/python tests/benchmarks/accuracy/equations_accuracy.py
	$(BIN)/python tests/benchmarks/accuracy/equations_simulated.py
	$(BIN)/python tests/benchmarks/speed/equations_speed.py
	$(BIN)/python tests/benchmarks/accuracy/kinetics_examples.py
	$(BIN)/python tests/benchmarks/accuracy/integrators.py
	$(BIN)/python tests/benchmarks/accuracy/integrators.py --fits
	$(BIN)/python tests/benchmarks/accuracy/theophylline.py
	$(BIN)/python tests/benchmarks/accuracy/guard.py
	$(BIN)/python tests/benchmarks/accuracy/conformal.py
	$(BIN)/python tests/benchmarks/accuracy/imbalance.py
	$(BIN)/python tests/benchmarks/accuracy/interruptions.py kills
	$(BIN)/python tests/benchmarks/accuracy/interruptions.py ctrl-c
	$(BIN)/python tests/benchmarks/accuracy/interruptions.py memory
	$(BIN)/python tests/benchmarks/accuracy/perovskites.py
	$(BIN)/python tests/benchmarks/accuracy/omniglot.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaest needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev,docs,plots,fetch,compile,trading,serve]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
