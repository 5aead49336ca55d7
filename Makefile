# The two commands of the README's first screen are `make demo` and `make test`; each does its own
# set-up, in .venv and .cache. As root on Debian or Ubuntu that includes the packages named below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find kubectl_podcp -name '*.py')
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo demo-cluster test lint unit end-to-end coverage e2e cluster cluster-down bench \
	release clean userlands

help:
	@sed -n 's/^## //p' Makefile

$(VENV)/.ready: setup.cfg requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -e .
	touch $@

dist/kubectl-podcp: build_zipapp.py requirements-zipapp.txt setup.cfg LICENSE $(SOURCES)
	$(PYTHON) build_zipapp.py

## make demo           copy a tree between two Pods of an embedded cluster, and compare checksums
demo: dist/kubectl-podcp $(VENV)/.ready
	@$(BIN)/python -m tests.loopback.showcase

## make demo-cluster   leave the embedded cluster running, to play with
demo-cluster: dist/kubectl-podcp $(VENV)/.ready
	@$(BIN)/python -m tests.loopback --demo

## make test           lint, types, unit tests, and the end-to-end suite on the embedded cluster
test: lint unit end-to-end

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kubectl_podcp tests build_zipapp.py

# The other tars that containers have; on Debian and Ubuntu, root installs what is missing.
userlands:
	@$(PYTHON) -m tests.userlands

unit: $(VENV)/.ready dist/kubectl-podcp userlands
	$(BIN)/coverage run -m pytest tests/unit
	$(BIN)/coverage report --include 'kubectl_podcp/exec/channels.py,kubectl_podcp/exec/frames.py,kubectl_podcp/archive/*,kubectl_podcp/relay.py,kubectl_podcp/paths.py' --fail-under 100

end-to-end: $(VENV)/.ready dist/kubectl-podcp userlands
	$(PYTEST) tests/end_to_end

## make e2e            the end-to-end suite on a real cluster on this machine (root, Go, containerd)
## make e2e CONTEXT=x  the same on the cluster of a kubeconfig context, in a namespace of its own
e2e: $(VENV)/.ready dist/kubectl-podcp
ifdef CONTEXT
	$(BIN)/python -m tests.end_to_end.anywhere $(CONTEXT)
else
	$(PYTHON) -m tests.cluster install
	$(PYTHON) -m tests.cluster up
	PODCP_TEST_KUBECONFIG=$$($(PYTHON) -m tests.cluster kubeconfig) \
	PODCP_KUBECTL=$$($(PYTHON) -m tests.cluster kubectl) \
	$(PYTEST) tests/end_to_end
endif

## make cluster        start the real cluster; make cluster-down ends it
cluster:
	$(PYTHON) -m tests.cluster install
	$(PYTHON) -m tests.cluster up

cluster-down:
	$(PYTHON) -m tests.cluster down

## make bench          throughput against kubectl exec | kubectl exec, on the real cluster
bench: dist/kubectl-podcp $(VENV)/.ready cluster
	$(BIN)/python -m tests.bench.throughput

## make release        dist/kubectl-podcp-v….tar.gz for krew; its sha256 goes into plugin.yaml
release:
	$(PYTHON) build_zipapp.py --release

clean:
	rm -rf $(VENV) build dist .cache
