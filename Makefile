# Each target does its own set-up in .venv, once: again only if pyproject.toml or constraints.txt
# changes. In an environment of your own (conda, say): make test BIN= READY=
PY      ?= python3
VENV    := .venv
BIN     := $(VENV)/bin/
PYTHON  := $(BIN)python
READY   := $(VENV)/.ready
WORKERS ?= 2
BUILD   := $(BIN)jupyter-book build -W -n --keep-going
# as many workers as cores: one thread each, or they wait for each other
TEST    := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n $(WORKERS)

export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport MPLBACKEND  # another back end than the notebooks' own would leave them without figures

.DEFAULT_GOAL := help
.PHONY: help book test pages browser lab page notebooks bench links lock clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; \
	  do printf 'make %-10s %s\n' "$$name" "$$text"; done

book: $(READY) ## run every notebook and build the book: _build/html/index.html
	$(BUILD) .

test: $(READY) ## style, unit, contract and documentation tests, every notebook
	$(PYTHON) -m ruff check .
	MPLBACKEND=Agg $(TEST) --doctest-modules companion tests
	$(TEST) --dist loadscope --nbval-lax --nbval-current-env --nbval-cell-timeout 300 book
	$(PYTHON) tools/notebooks.py --check

pages: browser book ## check every page of the book in Chromium
	$(PYTHON) -m pytest -q tests/pages

browser: $(READY)  # before the book is built, since it may be missing
	@PYTHONPATH=tests/pages $(PYTHON) -c 'import page_checks; exec("with page_checks.started(): pass")' || { \
	  echo 'No Chromium or Chrome could be started. Debian: sudo apt install chromium' >&2; \
	  echo 'Elsewhere: $(PYTHON) -m playwright install --with-deps chromium' >&2; exit 1; }

lab: $(READY) ## open the notebooks in JupyterLab
	$(PYTHON) -m jupyterlab --ServerApp.root_dir=book

page: $(READY) ## run and build one page alone: make page S=recurrent/cell
	@test -n "$(S)" || { echo 'Say which page: make page S=recurrent/cell' >&2; exit 2; }
	$(PYTHON) tools/page.py $(S)

notebooks: $(READY) ## run the notebooks again and store their outputs; one alone with S=
	$(PYTHON) tools/notebooks.py $(S)

bench: $(READY) ## time the package beside PyTorch and gensim
	for file in $(filter-out benchmarks/language.py,$(wildcard benchmarks/*.py)); do \
	  $(PYTHON) "$$file" || exit 1; done  # language.py trains for half an hour: run it by itself

links: $(READY) ## try every outside link of the book
	$(BUILD) --builder linkcheck .

lock: ## choose newest versions, write constraints.txt (needs the oldest supported Python)
	$(PY) tools/lock.py $(if $(TORCH),--torch $(TORCH))

clean: ## remove the environment and everything built
	rm -rf $(VENV) _build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@command -v $(PY) >/dev/null || { \
	  echo 'No $(PY) here. Install Python 3.11, 3.12 or 3.13, or name one: make book PY=python3.12' >&2; \
	  exit 1; }
	@$(PY) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit( \
	  "$(PY) is Python %d.%d; this project needs 3.11, 3.12 or 3.13. " % sys.version_info[:2] \
	  + "Name another: make book PY=python3.12")'
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PY) cannot make environments. On Debian or Ubuntu: sudo apt install python3-venv' >&2; \
	  exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PY) -m venv --clear $(VENV)
	@echo 'Setting up $(VENV): some minutes, once.'
ifneq ($(CPU),)  # PyTorch's CPU build instead of the platform's own, on Linux one with CUDA
	$(PYTHON) -m pip install -q uv
	$(BIN)uv pip install -q --python $(PYTHON) --torch-backend cpu --no-deps -c constraints.txt torch
endif
	$(PYTHON) -m pip install -q -c constraints.txt -e '.[book,test]'
	@touch $@
