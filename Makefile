# The two commands of the README's first screen are `make demo` and `make test`; each does its own
# set-up, in .venv and .cache. As root on Debian or Ubuntu that includes the packages named below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find kubectl_podcp -name '*.py')
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n auto --dist worksteal
SECONDS := 60

.PHONY: help demo demo-cluster test lint unit fuzz soak end-to-end coverage e2e cluster \
	cluster-down bench docs faults release clean userlands

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
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) tests/unit
	$(BIN)/coverage combine --quiet
	$(PYTEST) $(PARALLEL) --timeout 600 tests/fuzz
	$(BIN)/coverage report --include 'kubectl_podcp/exec/channels.py,kubectl_podcp/exec/frames.py,kubectl_podcp/archive/*,kubectl_podcp/relay.py,kubectl_podcp/sink.py,kubectl_podcp/paths.py' --fail-under 100

## make fuzz           coverage-guided fuzzing of what reads bytes; SECONDS=60 for each target
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz.guided follower -max_total_time=$(SECONDS)
	$(BIN)/python -m tests.fuzz.guided channels -max_total_time=$(SECONDS)

$(VENV)/.fuzz: $(VENV)/.ready requirements-fuzz.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-fuzz.txt
	touch $@

end-to-end: $(VENV)/.ready dist/kubectl-podcp userlands
	$(PYTEST) -n auto --dist loadfile --ignore tests/end_to_end/faults tests/end_to_end
	$(PYTEST) tests/end_to_end/faults  # which runs many copies at once by itself

## make soak           COUNT (1000) random copies with random faults, embedded; SEED=… CASE=… repeats
COUNT ?= 1000
JOBS ?= 4
soak: dist/kubectl-podcp $(VENV)/.ready userlands
	$(BIN)/python -m tests.soak --count $(COUNT) --jobs $(JOBS) $(SEED:%=--seed %) $(CASE:%=--case %)

## make e2e            the end-to-end suite on a real cluster on this machine (root, Go, containerd)
## make e2e CONTEXT=x  the same on the cluster of a kubeconfig context, in a namespace of its own
e2e: $(VENV)/.ready dist/kubectl-podcp
ifdef CONTEXT
	$(BIN)/python -m tests.end_to_end.anywhere $(CONTEXT)
else
	$(PYTHON) -m tests.cluster install
	$(PYTHON) -m tests.cluster up
	export PODCP_TEST_KUBECONFIG=$$($(PYTHON) -m tests.cluster kubeconfig) \
	PODCP_KUBECTL=$$($(PYTHON) -m tests.cluster kubectl) && \
	$(PYTEST) -n 2 --dist loadfile --durations 30 --ignore tests/end_to_end/faults \
		tests/end_to_end && \
	$(PYTEST) tests/end_to_end/faults  # which restarts what all others need
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

## make faults         break copies in every way, and write what came of it to docs/faults.md
## make faults CLUSTER=real  the same on the real cluster
faults: $(VENV)/.ready dist/kubectl-podcp
ifeq ($(CLUSTER),real)
	$(PYTHON) -m tests.cluster install
	$(PYTHON) -m tests.cluster up
	PODCP_TEST_KUBECONFIG=$$($(PYTHON) -m tests.cluster kubeconfig) \
	PODCP_FAULTS=write $(PYTEST) tests/end_to_end/faults
else
	$(MAKE) userlands
	PODCP_FAULTS=write $(PYTEST) tests/end_to_end/faults
endif

## make docs           write the table of options in docs/comparison.md anew
docs: $(VENV)/.ready
	$(BIN)/python -m tests.comparison

## make release        dist/kubectl-podcp-v….tar.gz for krew; its sha256 goes into plugin.yaml
release:
	$(PYTHON) build_zipapp.py --release

clean:
	rm -rf $(VENV) build dist .cache
