PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test recipes lint paper paper-cost clean

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.ready  ## train with and without the prior on clips of real digits, then open the page
	OMP_NUM_THREADS=1 $(BIN)/levyjepa experiment experiment=demo --jobs 2
	-$(BIN)/python -m webbrowser -t runs/demo/report.html > /dev/null

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint  ## lint, types, import order, doctests and tests, on two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/recipes

recipes: .venv/.ready  ## the prior in lightly, stable-pretraining, transformers, accelerate, Lightning, DDP, FSDP2
	$(BIN)/python -m pip install --quiet --editable '.[dev,recipes]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/recipes

# Debian: apt-get install latexmk texlive-latex-recommended texlive-fonts-recommended lmodern
paper: .venv/.ready  ## figures and numbers from the library, then docs/paper/levyjepa.pdf
	$(BIN)/python docs/paper/figures.py
	cd docs/paper && latexmk -pdf -interaction=nonstopmode -halt-on-error levyjepa.tex

paper-cost: .venv/.ready  ## the paper's table of costs, measured here: on a quiet machine
	$(BIN)/python benchmarks/statistic.py | $(BIN)/python docs/paper/cost.py

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache
