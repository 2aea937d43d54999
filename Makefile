# make demo   emotions of the recordings in examples/, from nothing but Python >= 3.11
# make test   set up, then the whole test suite
# make check  style, types and the order of the rooms
# One test:       make test PYTEST_ARGS=tests/test_cli.py
# Another Python: make demo PYTHON=/path/to/python3.12

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
# Not compiled ahead: most modules are never imported, and Python compiles the others once when they are.
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

# Two at a time; each test keeps to one thread.
PYTEST_ARGS ?= -n 2

export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test check clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

demo: $(VENV)/.installed
	@mkdir -p out
	$(BIN)/subtone predict examples
	$(BIN)/subtone predict examples/pauses.flac --per segment --plot out/timeline.png
	@echo "These voices are synthetic, so the answers mean nothing. Now your own: $(BIN)/subtone predict FILE"

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) out

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Subtone needs Python 3.11 or newer, and none was found; install one, or name it: make demo PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Subtone needs Python 3.11 or newer, and $(PYTHON) is not; name another: make demo PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# The stamps are touched last, so a set-up that was broken off is done again.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Subtone into $(VENV) (once; some minutes the first time)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Subtone and its tools into $(VENV) (once; some minutes the first time)"
	$(PIP) -e '.[dev,opensmile,webrtc,openvino,lora,augment]'
	@touch $@ $(VENV)/.installed
