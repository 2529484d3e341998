# Every target makes its own virtual environment in $(VENV) and needs nothing but Python >= 3.11 and make.
#   make demo                      the whole path on synthetic studies, about 8 minutes on 2 cores, installs included
#   make test                      the default test suite
# TORCH is what pip installs first. Where the default brings GPU libraries that you do not want, or another build
# fits your machine, give pip's arguments from the selector on pytorch.org:
#   make demo TORCH="torch==2.13.0 <arguments>"

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Tests run side by side, one thread each; more threads only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-slow lint format docs wheel picture clean

demo: $(VENV)/.base
	@$(BIN)/medvlm quickstart $(ARGS)

test: $(VENV)/.dev
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow --durations=10 $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --outdir dist .

# The picture in the README: the first screen of the last quickstart's report. Needs Chromium.
picture:
	chromium --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
	  --window-size=1280,780 --screenshot=docs/images/report.png file://$(CURDIR)/runs/quickstart/report/report.html
	$(BIN)/python -c "from PIL import Image; p = 'docs/images/report.png'; \
	  Image.open(p).convert('RGB').save(p, optimize=True)"

clean:
	rm -rf $(VENV) dist site build

$(VENV)/.torch:
	@echo "making the environment $(VENV) and installing $(firstword $(TORCH)): a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.base: $(VENV)/.torch pyproject.toml
	@echo "installing medvlm and what it needs: a minute or two"
	@$(PIP) install -e '.[dicom]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "installing medvlm and what developing it needs: a minute or two"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.base
