# make install    a virtual environment in .venv with everything, in the versions and with the hashes of requirements/
# make demo       eight unequal workers train handwritten digits, without a barrier and then with one
# make test       the tests, then what `make lint` does
# make lint       ruff, mypy, import rules, and oxlint for the page
# make chaos      a campaign under fire; one JSON line tells what was lost (nothing) and doubled (nothing)
# make examples   every example with a small budget, as tests; about five minutes
# make fuzz       hostile bytes against the decoder, for a time budget
# make bench      throughput, stragglers, merging and scale, beside this machine's own limits
# make methods    what each method buys against the plain baseline, three seeds
# make lock       write requirements/ anew from pyproject.toml; UPGRADE=1 takes the newest versions that it allows
# make clean      remove caches and what was built; .venv and runs/ stay
#
# PYTHON names the interpreter that .venv is made with: make install PYTHON=python3.12
# TORCH_INDEX_URL names the index that PyTorch alone is taken from, such as that of its CPU builds.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.complete

PIP := $(BIN)/python -m pip install --disable-pip-version-check
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--constraint requirements/torch.txt --no-emit-package torch --custom-compile-command 'make lock' \
	$(if $(UPGRADE),--upgrade) --output-file

.PHONY: install lock demo test lint chaos examples fuzz bench methods clean

install: $(INSTALLED)

# Again only when what is to be installed has changed. The lock is complete, so pip adds nothing to it; PyTorch comes
# after it (requirements/torch.txt says why), when whatever else it needs is there, and this project last.
$(INSTALLED): pyproject.toml requirements/dev.txt requirements/torch.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes --requirement requirements/dev.txt
	$(PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) --requirement requirements/torch.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The first is the largest; the others have its versions.
lock: | $(INSTALLED)
	$(LOCK) requirements/dev.txt pyproject.toml --extra dev --group build
	$(LOCK) requirements/image.txt pyproject.toml --constraint requirements/dev.txt \
		--extra coordinator --extra examples --extra monitor --extra security
	$(LOCK) requirements/device.txt pyproject.toml --constraint requirements/dev.txt --extra security
	$(LOCK) requirements/build.txt --group build --constraint requirements/dev.txt

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
	$(BIN)/oxlint --deny-warnings coordinator/monitor/page

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
