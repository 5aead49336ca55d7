# The two commands of the README's first screen are `make demo` and `make test`.
# All that they need and Python cannot bring is named in tests/requirements-system.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

$(VENV)/.ready: setup.cfg requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -e .
	touch $@
