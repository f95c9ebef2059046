# Two commands matter: `make run` does the main job, `make test` checks everything.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/.ready-docs
# Of test-repeat: how often, and which tests; MARK=slow takes the slow ones.
N      ?= 20
MARK   ?= not slow

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all docs test-repeat test-oldest test-cluster fuzz lint types format bench bench-core bench-host bench-rnn bench-lowrank bench-reveal bench-sweep bench-models bench-adapter bench-trust reproduce reproduce-quick results-check gpu kernels kernels-oldest wheel clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the pinned packages (torch for CPUs if there is no GPU)

# uv knows where PyTorch keeps its CPU builds; pip takes what the index offers.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@if ! command -v nvidia-smi >/dev/null && command -v uv >/dev/null && \
	    uv pip install --quiet --python $(BIN)/python --torch-backend cpu -c constraints.txt torch; \
	then echo "installed the CPU build of torch"; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    "$$(grep '^torch==' constraints.txt)"; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peers]'
	@touch $@

run: $(READY) ## time a gradient step of every orthogonal parametrisation; five minutes; results/
	$(BIN)/svdbench time-fasth

# What builds the documentation is not needed for anything else.
$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS) ## build the documentation, strictly; build/site
	$(BIN)/python -m mkdocs build --quiet --strict --config-file .mkdocs.yml
	@echo "open build/site/index.html"

# A process for each core, with one thread each: two threads on a busy core wait for each other.
TEST := -m pytest -m "not slow" -n auto --dist loadfile

test: $(READY) ## run the tests; less than ten minutes
	OMP_NUM_THREADS=1 $(BIN)/python $(TEST)

test-all: $(DOCS) ## run all tests, including slow ones, the notebooks and every command in the docs
	$(BIN)/python -m pytest

# The lowest version of each requirement, with the newest of what those need themselves.
# torch-householder is compiled against the torch that it will run with, which must be there first.
OLDEST         := .venv-oldest
INSTALL_OLDEST := $(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python \
    --resolution lowest-direct --no-build-isolation-package torch-householder

test-oldest: ## run the tests with the oldest versions that pyproject.toml allows, in .venv-oldest
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check uv setuptools wheel ninja
	@set -e; for what in . '.[dev,peers]'; do \
	    $(INSTALL_OLDEST) --torch-backend cpu -e "$$what" || { \
	        echo "no CPU build of that torch can be had: its CUDA build, about 3 GB, will do"; \
	        $(INSTALL_OLDEST) -e "$$what"; }; \
	done
	$(OLDEST)/bin/python -m pip list --disable-pip-version-check
	$(OLDEST)/bin/python -m pytest -m "not slow"

fuzz: $(READY) ## try random malformed arguments, keys, variables and files, and count failures
	SVDBENCH_FUZZ=random OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -n auto

test-repeat: $(READY) ## run the tests N=20 times, every second time beside two busy processes; count failures
	@passed=0; failed=0; log=$$(mktemp); \
	for i in $$(seq $(N)); do \
	    busy=; beside=; \
	    if [ $$((i % 2)) -eq 0 ]; then \
	        beside=" under load"; \
	        for j in 1 2; do (while :; do :; done) & busy="$$busy $$!"; done; \
	        trap "kill $$busy" EXIT INT TERM; \
	    fi; \
	    if OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$(MARK)" -n auto --dist loadfile \
	        -p no:cacheprovider >$$log 2>&1; \
	    then passed=$$((passed + 1)); how=passed; \
	    else failed=$$((failed + 1)); how=failed; grep -E "^(FAILED|ERROR)" $$log; fi; \
	    if [ -n "$$busy" ]; then kill $$busy; trap - EXIT INT TERM; fi; \
	    echo "$$i of $(N)$$beside: $$how, $$(tail -n 1 $$log)"; \
	done; rm -f $$log; echo "$$passed passed, $$failed failed"; [ $$failed -eq 0 ]

test-cluster: $(READY) ## test sweeps on SLURM and Ray, started on this host as root (docs/cluster.md)
	$(BIN)/python -m pytest tests/cluster --cluster

lint: $(READY) ## check style and likely mistakes with ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## check types with mypy
	$(BIN)/mypy

format: $(READY) ## format the code with ruff
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(READY) ## measure and judge the figures that we promise; results/bench/
	PYTHONPATH=tests $(BIN)/python -m promises.steps

bench-core: $(READY) ## the same for the Householder core on a CPU; two minutes; results/bench-core/
	PYTHONPATH=tests $(BIN)/python -m promises.core

bench-host: $(READY) ## host time and launches of a step on a GPU, without one; results/bench-host/
	PYTHONPATH=tests $(BIN)/python -m promises.host_cost

bench-rnn: $(READY) ## the same for the recurrent networks; takes hours; results/bench-rnn/
	PYTHONPATH=tests $(BIN)/python -m promises.recurrent

bench-lowrank: $(READY) ## the same for low-rank compression; needs MNIST; results/bench-lowrank/
	PYTHONPATH=tests $(BIN)/python -m promises.low_rank

bench-reveal: $(READY) ## the same for rank reveal; needs MNIST; results/bench-reveal/
	PYTHONPATH=tests $(BIN)/python -m promises.ranks

bench-models: $(READY) ## the same for compressing real models; needs the extra zoo; takes hours; results/bench-models/
	PYTHONPATH=tests $(BIN)/python -m promises.models

bench-adapter: $(READY) ## the same for HouseholderAdapter and PEFT's layer; needs peft; results/bench-adapter/
	PYTHONPATH=tests $(BIN)/python -m promises.adapter

bench-trust: $(READY) ## kill runs at random, KILLS=300 times; cost of recording; results/bench-trust/
	PYTHONPATH=tests $(BIN)/python -m promises.trust

bench-sweep: $(READY) ## the same for sweeps on two processes; results/bench-sweep/
	PYTHONPATH=tests $(BIN)/python -m promises.sweeps

reproduce: $(READY) ## repeat and judge the published results; takes hours, resumes when interrupted
	$(BIN)/svdbench reproduce all

reproduce-quick: $(READY) ## repeat a small version of each result, in minutes; results/reproduce-quick/
	$(BIN)/svdbench reproduce all --quick

results-check: $(READY) ## repeat the quick versions; fail if a verdict differs from the committed one
	rm -rf results/check
	$(BIN)/svdbench reproduce all --quick --results results/check \
	    --against results/reference/reproduce/quick

# No $(READY): a machine with a GPU may have no network, and python3 the packages already.
gpu: ## kernels, timings and tests on an NVIDIA GPU, in at most 8 minutes; results/gpu/
	PYTHONPATH=.:tests $(or $(wildcard $(BIN)/python),$(PYTHON)) -m promises.gpu

# LARGEST=--largest compiles the largest of each kernel alone: a quarter of an hour in place of hours.
LARGEST ?=

kernels: $(READY) ## compile every Triton kernel for four chips, and list their resources; results/kernels/
	$(BIN)/python -m svdbench.kernels.triton_ahead results/kernels $(LARGEST)

# The Triton of torch 2.11, which GPU machines have. No GPU is needed, so any build of torch does.
OLDEST_TRITON  := 3.6.0
OLDEST_KERNELS := .venv-triton

$(OLDEST_KERNELS)/.ready: Makefile constraints.txt
	$(PYTHON) -m venv --clear $(OLDEST_KERNELS)
	@if command -v uv >/dev/null && uv pip install --quiet --python $(OLDEST_KERNELS)/bin/python \
	    --torch-backend cpu -c constraints.txt torch numpy; \
	then echo "installed the CPU build of torch"; \
	else $(OLDEST_KERNELS)/bin/python -m pip install --quiet --disable-pip-version-check \
	    $$(grep -E '^(torch|numpy)==' constraints.txt); fi
	$(OLDEST_KERNELS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    triton==$(OLDEST_TRITON)
	@touch $@

kernels-oldest: $(OLDEST_KERNELS)/.ready ## the same with Triton 3.6, in .venv-triton; results/kernels-oldest/
	$(OLDEST_KERNELS)/bin/python -P -c "import triton; print('Triton', triton.__version__)"
	PYTHONPATH=. $(OLDEST_KERNELS)/bin/python -m svdbench.kernels.triton_ahead results/kernels-oldest $(LARGEST)

wheel: $(READY) ## build dist/*.whl, and check what PyPI would show of it
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m twine check --strict dist/*.whl

clean: ## remove build products; results and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
