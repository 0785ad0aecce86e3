.PHONY: check format lint types test slow postgresql flower

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

FLOWER = .venv-flower/bin/python

flower:  ## a Flower federation on this machine; its pins stay in an environment of its own, over the packages of $(PYTHON)
	$(PYTHON) -m venv --clear .venv-flower
	$(PYTHON) -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" > \
		"$$($(FLOWER) -c 'import site; print(site.getsitepackages()[0])')/over.pth"
	$(FLOWER) -m pip install -q -e '.[flower]'
	$(FLOWER) -m mypy src/stillhouse/edge/flower tests/edge/flower
	OMP_NUM_THREADS=1 $(FLOWER) -m pytest tests/edge/flower
