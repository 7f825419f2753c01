# One virtual environment, one stamp per set of extras: it is installed again only when what it depends on changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RELEASE_TESTS := tests/test_space.py tests/test_constraints.py tests/test_rounding.py tests/test_checkpoint.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint bench docs release-check clean
.SECONDARY:

demo: $(VENV)/.installed-plot
	$(BIN)/cggd demo --out out
	@echo "your own table: $(BIN)/cggd solve table.csv --minimize price (README.md, docs/start.md)"

# Without the tests marked slow, which take more than two seconds of one core or repeat quicker cases, and with a quarter
# of the random examples; `make test-all` runs all.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not slow" --hypothesis-profile quick

test-all: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

# The site: open out/site/index.html. The search field needs a server: python -m http.server -d out/site
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict

# Wheel and sdist are built and checked, then installed and tested in fresh environments, apart from this checkout.
release-check: $(VENV)/.installed-release
	rm -rf dist build/release
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/release/wheel
	build/release/wheel/bin/pip install -q -c constraints.txt dist/*.whl
	cd build/release && wheel/bin/python -m cggd version
	cd build/release && wheel/bin/python -W error -c "import cggd, cggd.datasets as d; n = d.nats_topology(); print(cggd.maximize(n.val12, [n.latency <= 5]).summary())"
	tar -xzf dist/*.tar.gz -C build/release
	$(PYTHON) -m venv build/release/sdist
	cd build/release/cggd-* && ../sdist/bin/pip install -q -c constraints.txt . pytest hypothesis pandas
	cd build/release/cggd-* && ../sdist/bin/python -m pytest -p no:cacheprovider $(RELEASE_TESTS)

bench: $(VENV)/.installed-plot,bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) out build dist *.egg-info .nox .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The folder of adapters counts: an editable installation only knows the packages there were when it was made.
$(VENV)/.installed-%: pyproject.toml constraints.txt $(wildcard adapters) | $(BIN)/python
	$(BIN)/pip install -q -c constraints.txt -e '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
