# Each target works alone on a fresh machine: it makes .venv and installs what it needs, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Two at a time, each with one thread; the tests of a file share what they train.
TESTS := -m pytest --numprocesses 2 --dist loadfile

.PHONY: setup demo test test-slow test-all test-oldest coverage lint format notebooks previews bench gpu gallery clean

setup: $(READY)

$(READY): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 setup"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS="ignore:Editable installation" \
		$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	rm -rf runs/demo
	$(BIN)/python -m colorize demo --out runs/demo

test: $(READY)
	$(BIN)/python $(TESTS)

# Whole processes: the command line, servers, notebooks, a browser; ONNX; the soak; scripts.
test-slow: $(READY)
	$(BIN)/python $(TESTS) -m slow

test-all: test test-slow

test-oldest: $(READY)
	$(BIN)/python scripts/oldest.py
	.venv-oldest/bin/python $(TESTS) -m ""

coverage: $(READY)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -m ""
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --show-missing --fail-under 95

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

notebooks: $(READY)
	$(BIN)/python scripts/embed.py

previews: notebooks
	$(BIN)/python scripts/previews.py

bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(BENCH)

# Ten minutes on a GPU; `make gpu DEVICE=cpu QUICK=1` rehearses them. PHOTOS=FOLDER to train on.
gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(if $(DEVICE),--device $(DEVICE)) $(if $(QUICK),--quick) \
		$(if $(PHOTOS),--photos $(PHOTOS)) $(if $(BUDGET),--budget $(BUDGET))

gallery: $(READY)
	$(BIN)/python scripts/gallery.py $(if $(RUN),--run $(RUN)) $(if $(BESIDE),--beside $(BESIDE))

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-oldest build .pytest_cache .hypothesis .import_linter_cache .ruff_cache .coverage*
