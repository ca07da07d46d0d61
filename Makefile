# make paint PROMPT="a red apple"    a picture in words, a picture on disk
# make test                          everything that CI tests
# make lint                          style, types, import arrows
#
# Only make and Python 3.11, 3.12 or 3.13 have to be there. Everything goes into $(VENV), nothing elsewhere.

VENV ?= .venv
PROMPT ?= a red apple
# More for the command, such as PAINT="--count 4 --seed 7".
PAINT ?=
# More for pytest, such as PYTEST="-k clip".
PYTEST ?=
# How many tests run at once, each on a core of its own; files stay together, for what they share is made once.
WORKERS ?= auto
# Where the small CPU build of torch comes from on Linux, if the configured package index does not have it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# The interpreter to build the environment with; found if not given.
PYTHON ?=

# The prompt reaches the shell through the environment and as it was typed: quotes, dollars and all.
export LIMNER_PROMPT := $(value PROMPT)
unexport PROMPT

export PIP_DISABLE_PIP_VERSION_CHECK := 1
BIN := $(VENV)/bin
# Twice quiet: errors are shown, a mirror's warnings are not.
PIP := $(BIN)/python -m pip -qq
STAMPS := $(VENV)/.limner

.PHONY: paint test lint format clean
.DELETE_ON_ERROR:

paint: $(STAMPS)/base
	@$(BIN)/limner paint "$$LIMNER_PROMPT" $(PAINT)

test: $(STAMPS)/dev
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(PYTEST)

lint: $(STAMPS)/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMPS)/dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Each stamp says that a step is done, and is older than what would make it necessary again.

$(STAMPS)/dev: $(STAMPS)/base requirements-parity.txt
	@echo "limner: installing what the tests and checks need"
	@$(PIP) install -c constraints.txt -e ".[train,data,eval,search,serve,parity,dev]"
	@$(PIP) install -c constraints.txt --no-deps -r requirements-parity.txt
	@touch $@

$(STAMPS)/base: $(STAMPS)/torch pyproject.toml
	@echo "limner: installing"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

# On Linux the ordinary torch brings gigabytes of CUDA; the build marked +cpu is the small one, and the ordinary
# index does not have it. A place that does (a mirror, a folder of wheels) is asked first, then TORCH_INDEX.
$(STAMPS)/torch: $(STAMPS)/venv constraints.txt
	@torch=$$(sed -n 's/^torch==//p' constraints.txt); \
	 echo "limner: installing torch $$torch (about 200 MB, the CPU build)"; \
	 if [ "$$(uname -s)" != Linux ]; then $(PIP) install "torch==$$torch"; \
	 else $(PIP) install "torch==$$torch+cpu" 2>/dev/null \
	   || $(PIP) install --extra-index-url "$(TORCH_INDEX)" "torch==$$torch+cpu"; fi
	@touch $@

$(STAMPS)/venv:
	@found=; \
	 for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	   if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	      >/dev/null 2>&1; then found=$$python; break; fi; \
	 done; \
	 if [ -z "$$found" ]; then \
	   echo "limner needs Python 3.11, 3.12 or 3.13 with venv, and found none." >&2; \
	   echo "Install one (on Debian and Ubuntu: apt install python3 python3-venv), or say where it is:" >&2; \
	   echo "  make PYTHON=/path/to/python3.12 ..." >&2; exit 2; \
	 fi; \
	 echo "limner: making $(VENV) with $$($$found --version)"; \
	 $$found -m venv "$(VENV)"
	@$(PIP) install --upgrade pip || true
	@mkdir -p $(STAMPS)
	@touch $@
