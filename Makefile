# Two commands matter: `make run` and `make test`. Each installs what it needs, and again only when a lock changes.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON  ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
BIN     := .venv/bin
AIRFLOW := .venv-airflow/bin
CONFIG  ?= conf/demo.yaml
OUT     ?= out/$(basename $(notdir $(CONFIG)))
DATA    ?=
SET     ?=
ONLY    ?=

help: ## what can be made
	@echo "Thaw: cold-start recommendation, from raw logs to a registered model."
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "Options: CONFIG=conf/movielens.yaml DATA=folder OUT=folder SET='a.b=3 c.d=4' (run), ONLY=name (test, bench)"

setup: .venv/.installed .venv-airflow/.installed ## install both environments

run: .venv/.installed ## the main job, on generated data or CONFIG=… DATA=…
	$(BIN)/thaw run --config $(CONFIG) $(if $(DATA),--data $(DATA)) --out $(OUT) $(foreach s,$(SET),--set $(s))

test: setup ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(ONLY),-k "$(ONLY)")

test-faults: setup ## each job killed three times, on full and read-only disks, two at once: docs/reliability.md
	THAW_KILLS=3 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/end_to_end/test_faults.py \
	  tests/end_to_end/test_kills.py tests/end_to_end/test_cluster.py tests/end_to_end/test_killed_training.py \
	  tests/pipelines/test_jax.py
	THAW_SCHEDULER=900 $(BIN)/python -m pytest tests/airflow_dags

audit: .venv/.installed ## ask the advisory databases about every pinned package (needs the network)
	$(BIN)/uv tool run pip-audit --strict --require-hashes --disable-pip --no-deps -r requirements.lock
	$(BIN)/uv tool run pip-audit --strict --require-hashes --disable-pip --no-deps -r requirements-airflow.lock

check: .venv/.installed ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed ## measurements, side by side: ONLY=name for one
	$(BIN)/python -m benchmarks $(ONLY)

lock: ## solve the locks anew
	$(BIN)/uv pip compile -q --no-emit-index-url --generate-hashes --python-version 3.11 --extra dev \
	  pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile -q --no-emit-index-url --generate-hashes --python-version 3.11 \
	  airflow_dags/requirements.in -o requirements-airflow.lock --custom-compile-command "make lock"

package: .venv/.installed ## dist/: Thaw as a wheel, and as the zip and the file that spark-submit takes
	rm -rf build dist
	$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	rm -rf build
	cp dist/thaw-*.whl dist/thaw.zip  # a wheel is a zip of the packages, which Spark takes by that ending alone
	cp jobs/cli.py dist/thaw.py
	@echo "spark-submit --master … --py-files dist/thaw.zip dist/thaw.py JOB --config … (docs/cluster.md)"

clean: ## remove environments, caches and outputs
	rm -rf .venv .venv-airflow .airflow out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

java:
	@command -v java >/dev/null || [ -x "$$JAVA_HOME/bin/java" ] || { \
	  echo "thaw: Spark needs Java 17 or newer, found none; install a JDK (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "thaw: Python 3.11 or newer is needed, $(PYTHON) is older; set PYTHON=…"; exit 2; }

.venv/.installed: requirements.lock pyproject.toml | java
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	touch $@

.venv-airflow/.installed: requirements-airflow.lock .venv/.installed
	test -x $(AIRFLOW)/python || $(PYTHON) -m venv .venv-airflow
	$(BIN)/uv pip install -q --compile-bytecode --python $(AIRFLOW)/python --require-hashes -r requirements-airflow.lock
	touch $@

.PHONY: help setup run test test-faults audit check bench lock package clean java
