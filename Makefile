# Everything a newcomer needs: `make gate` for the verdict, `make test` for the suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev

.PHONY: gate test lint mooncake types sglang explore docs wheel gpu-wheels check clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

gate: $(STAMP)
	$(BIN)/goldentrace gate

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/house_figures.py --check

# Lets the tests of storage backends start a Mooncake Store; needs libibverbs1 of the system.
mooncake: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mooncake]"

types: $(STAMP)
	$(BIN)/mypy

sglang: $(STAMP)
	GOLDENTRACE_SGLANG=1 $(BIN)/python -m pytest -q tests/test_sglang_gate.py

explore: $(STAMP)
	$(BIN)/goldentrace explore --runs 20

# The documentation site, in build/site; a dead link is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/site

wheel: $(STAMP)
	$(BIN)/python scripts/check_wheel.py

# Wheels of sglang RELEASE for a GPU machine that has the packages named in the file PRESENT.
gpu-wheels: $(STAMP)
	$(BIN)/python -m scripts.gpu_wheels $(RELEASE) $(if $(PRESENT),--present $(PRESENT))

check: lint types gate explore docs test wheel

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
