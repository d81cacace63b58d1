PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.ready  ## train with and without the prior on real digits, then open runs/demo/report.html
	$(BIN)/levyjepa experiment experiment=demo
	-$(BIN)/python -m webbrowser -t runs/demo/report.html > /dev/null

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint  ## lint, types, import order, doctests and tests
	$(BIN)/python -m pytest

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache
