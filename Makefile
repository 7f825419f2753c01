# One virtual environment, one stamp per set of extras: it is installed again only when what it depends on changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint bench clean
.SECONDARY:

demo: $(VENV)/.installed-plot
	$(BIN)/cggd demo --out out

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.installed-plot,bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The folder of adapters counts: an editable installation only knows the packages there were when it was made.
$(VENV)/.installed-%: pyproject.toml constraints.txt $(wildcard adapters) | $(BIN)/python
	$(BIN)/pip install -q -c constraints.txt -e '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
