# Targets: setup, demo, test, coverage, slow, check, format, bench, fuzz, gpu, schema, plans, augmentation-page, losses-page, metrics-page, accuracy-page, api-page.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test coverage slow check format bench fuzz gpu schema plans augmentation-page losses-page metrics-page accuracy-page api-page

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/tumorseg demo

# One process for each core, each with one thread: threads of two that wait for each other in a loop slow both down.
PYTEST := GOMP_SPINCOUNT=10000 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

test: $(STAMP)
	$(PYTEST) -m 'not slow and not long and not gpu'

# Tracing makes the same tests take half as long again.
coverage: $(STAMP)
	$(PYTEST) -m 'not slow and not long and not gpu' --cov --cov-fail-under=85 --cov-report=term:skip-covered

slow: $(STAMP)
	$(PYTEST) -m 'slow and not long and not gpu' --durations=12

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP)
	$(BIN)/python -m tests.schema.test_documents

plans: $(STAMP)
	$(BIN)/python -m tests.planning.test_reference_plans

losses-page: $(STAMP)
	$(BIN)/python -m tests.docs.losses_page

metrics-page: $(STAMP)
	$(BIN)/python -m tests.docs.metrics_page

augmentation-page: $(STAMP)
	$(BIN)/python -m tests.docs.augmentation_page

accuracy-page: $(STAMP)
	$(BIN)/python -m tests.docs.accuracy_page

api-page: $(STAMP)
	$(BIN)/python -m tests.docs.api_page

bench: $(STAMP)
	$(BIN)/pytest -m 'long or gpu'
	$(BIN)/python -m benchmarks.hippocampus
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.statistics
	$(BIN)/python -m benchmarks.selection_noise
	$(if $(PEER),OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.augmentation --peer $(PEER))
	$(BIN)/python -m benchmarks.tracking
	$(BIN)/python -m benchmarks.preprocessing $(if $(PEER),--peer $(PEER),--parts streaming)
	$(BIN)/python -m benchmarks.inference $(if $(PEER),--peer $(PEER),--parts prepare engines memory)
	$(if $(PEER),$(BIN)/python -m benchmarks.labels --peer $(PEER))
	$(BIN)/python -m benchmarks.training $(if $(PEER),--peer $(PEER))
	$(BIN)/python -m benchmarks.training_study

# An hour at most, on all cores; another run goes on with other inputs.
fuzz: $(STAMP)
	$(BIN)/python -m benchmarks.fuzz

# Ten minutes at most. Nothing is installed, as there may be no network: without an environment of its own it takes `PYTHON`.
gpu:
	if $(BIN)/python -c 'import torch' 2>/dev/null; then python=$(BIN)/python; else python=$(PYTHON); fi; \
	$$python -m benchmarks.gpu $(if $(RESULT),--result $(RESULT))
