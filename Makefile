# Two commands: `make demo` runs the main job on the bundled scans, `make test` checks everything.
# Both first make .venv. PYTHON chooses the interpreter (3.10 to 3.13).

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: setup demo test lint clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt development/environment.py
	@$(PYTHON) development/environment.py

demo: setup
	@$(BIN)/python development/demo.py

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=GLMAESegmentation $(BIN)/lint-imports

# Files of tests side by side, each on one thread: small networks gain nothing from more.
test: export OMP_NUM_THREADS = 1
test: lint
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

clean:
	rm -rf .venv demo-output build
