.PHONY: check format lint types test slow postgresql

PYTHON ?= python
TESTS ?= -n auto

check: lint types test  ## every check, as CI runs them

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(TESTS)

postgresql:  ## what the edge service promises, with a PostgreSQL of its own
	OMP_NUM_THREADS=1 PYTHON=$(PYTHON) .ci/with-postgresql $(PYTHON) -m pytest -k postgresql tests/edge/service

slow:  ## learning runs, minutes each
	$(PYTHON) -m pytest -m slow
