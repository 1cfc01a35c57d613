# `make forecast` and `make test` need nothing but python3 (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
OUT ?= runs/harbor_fleet

.PHONY: forecast test lint types docs bench acceptance clean

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.forecast: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[forecast]'
	touch $@

.venv/.test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[forecast,test,lint,docs]'
	touch $@

.venv/.bench: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[forecast,bench]'
	touch $@

forecast: .venv/.forecast
	$(BIN)/python -m examples.harbor_fleet train $(if $(DATA),--data $(DATA)) --out $(OUT)

test: .venv/.test
	$(BIN)/python -m pytest

lint: .venv/.test
	$(BIN)/ruff check .

types: .venv/.test
	$(BIN)/mypy

docs: .venv/.test
	$(BIN)/python -m pdoc -o build/docs bevel

# User programs kept beside the project. Files that are not named here come with later issues.
acceptance: .venv/.test
	$(BIN)/python -m pytest -c /dev/null --rootdir=../shared/acceptance -p no:cacheprovider -q \
	  ../shared/acceptance/test_keys.py ../shared/acceptance/test_transforms.py ../shared/acceptance/test_state.py ../shared/acceptance/test_pitfalls.py

bench: .venv/.bench
	$(BIN)/python -m bench

clean:
	rm -rf .venv build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis bevel.egg-info
