# make install    a virtual environment in .venv with everything, pinned by constraints.txt
# make demo       eight unequal workers train handwritten digits, without a barrier and then with one
# make test       the tests, then what `make lint` does
# make lint       ruff, mypy, import rules
# make chaos      a campaign under fire; one JSON line tells what was lost (nothing) and doubled (nothing)
# make examples   every example with a small budget, as tests; about five minutes
# make fuzz       hostile bytes against the decoder, for a time budget
# make bench      throughput, stragglers, merging and scale, beside this machine's own limits
# make methods    what each method buys against the plain baseline, three seeds
# make clean      remove caches and what was built; .venv and runs/ stay
#
# PYTHON names the interpreter that .venv is made with: make install PYTHON=python3.12

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint chaos examples fuzz bench methods clean

install: $(INSTALLED)

# Again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/fedtide demo

test: install
	$(BIN)/python -m pytest -n 6
	@$(MAKE) --no-print-directory lint

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kills and worse, at random: CHAOS_SECONDS, CHAOS_SEED, CHAOS_SCENE, CHAOS_WORKER_EVERY=3 (seconds), ...
chaos: install
	$(BIN)/python -m tests.chaos.monkey

# Each example as its first lines say, with a small budget.
examples: install
	$(BIN)/python -m pytest tests/examples/each_example.py -n 1

# Hostile bytes against admission, then against the readers of keys and queues: FUZZ_SECONDS for each, FUZZ_SEED.
fuzz: install
	$(BIN)/python -m tests.fuzz.fuzz_admission
	$(BIN)/python -m tests.fuzz.fuzz_readers

# Figures against the hardware's limit, with medians of three runs; about half an hour on a quiet machine.
bench: install
	$(BIN)/python benchmarks/run_all.py --repeat 3 --write benchmarks/RESULTS.md

# What each method buys against the plain baseline, three seeds; about twenty minutes.
methods: install
	$(BIN)/python benchmarks/methods.py --seeds 3 --into docs/methods.md --plot docs/images/importance.png

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find fl_core coordinator workers tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
