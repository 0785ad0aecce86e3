.PHONY: check format lint types test slow

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

slow:  ## learning runs, minutes each
	$(PYTHON) -m pytest -m slow
