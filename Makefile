# Every target makes its own environment on first use. Needs Python 3.11 or newer, make and a package index.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMP  := $(VENV)/.installed

ENV    ?= pp_small
ALGO   ?= qmix
SEEDS  ?=
RESUME ?=
EXTEND ?=
RUN    ?=
RUNS   ?=
ARGS   ?=
TESTS  ?=
NAME   :=
FILE   ?=
OUT    ?= team.npz
A      ?=
B      ?=
SCALE  ?= quick

.PHONY: help train eval list ls watch compare sweep render report export experiment test test-all test-core lint format docs lock clean
.DEFAULT_GOAL := help

help:
	@echo "make train ENV=pp_small ALGO=qmix [SEEDS=4] [ARGS='--learner.lr 1e-3']   train a team"
	@echo "make train RESUME=runs/NAME                                              go on with an interrupted run"
	@echo "make train EXTEND=runs/NAME ARGS='--t-max 3000000'                       a longer run that begins where it stood"
	@echo "make eval RUN=runs/NAME [ARGS='--episodes 200']                          test a trained team"
	@echo "make list [ARGS=presets]                                                 worlds, algorithms, settings"
	@echo "make ls | make watch RUN=runs/NAME | make compare A=runs/ONE B=runs/OTHER      runs there are; one as it goes on; two"
	@echo "make sweep FILE=my_sweep.yaml [ARGS=--dry-run]                           worlds, algorithms and settings, crossed"
	@echo "make export RUN=runs/NAME OUT=team.npz                                   a team's networks as arrays"
	@echo "make render RUN=runs/NAME [ARGS='--episode 3 --out hunt.mp4']             an episode of a team as GIF or MP4"
	@echo "make report RUNS='runs/A runs/B' [ARGS='--out report.html']              runs on one page, readable offline"
	@echo "make experiment [NAME=pp_small_qmix SCALE=quick]                         run, draw and judge a named experiment"
	@echo "make test [TESTS=tests/methods] | make test-all | make test-core | make lint | make format | make docs | make lock | make clean"

train: $(STAMP)
	@$(BIN)/gpgrad train $(if $(EXTEND),--extend $(EXTEND) $(ARGS),$(if $(RESUME),--resume $(RESUME),--env $(ENV) --algo $(ALGO) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)))

eval: $(STAMP)
	@$(BIN)/gpgrad eval $(RUN) $(ARGS)

list: $(STAMP)
	@$(BIN)/gpgrad list $(ARGS)

ls: $(STAMP)
	@$(BIN)/gpgrad ls $(ARGS)

watch: $(STAMP)
	@$(BIN)/gpgrad watch $(RUN) $(ARGS)

compare: $(STAMP)
	@$(BIN)/gpgrad compare $(A) $(B) $(ARGS)

sweep: $(STAMP)
	@$(BIN)/gpgrad sweep $(FILE) $(ARGS)

export: $(STAMP)
	@$(BIN)/gpgrad export $(RUN) --out $(OUT) $(ARGS)

render: $(STAMP)
	@$(BIN)/gpgrad render $(RUN) $(ARGS)

report: $(STAMP)
	@$(BIN)/gpgrad report $(RUNS) $(ARGS)

experiment: $(STAMP)
	@$(BIN)/gpgrad experiment $(if $(NAME),run $(NAME) --scale $(SCALE) $(ARGS),list)

# A file's tests share compiled programs, so they stay in one process. Huge pages make them faster on Linux.
ifeq ($(shell uname -s),Linux)
HUGE := GLIBC_TUNABLES=$(or $(GLIBC_TUNABLES),glibc.malloc.hugetlb=1)
endif
PYTEST := $(HUGE) WANDB_MODE=disabled TF_CPP_MIN_LOG_LEVEL=2 $(PY) -m pytest -n 2 --dist loadfile

test: $(STAMP)
	@$(PYTEST) -m "not slow" $(TESTS)

test-all: $(STAMP)
	@$(PYTEST) $(TESTS)

# What tells whether another Python and its versions work: recorded numbers, the learner, resuming, the command line,
# and the README's first commands at a tiny size. `make test-core PYTHON=python3.13 VENV=.venv-3.13`
CORE := tests/project/test_flags.py tests/methods/test_oracles.py tests/envs/test_traces.py tests/learning/test_learner.py \
	tests/training/test_resume.py tests/cli/test_cli.py
SMALL := --t-max 300 --evaluation.every-steps 200 --evaluation.episodes 2 --evaluation.final-episodes 2 --agent.hidden 8

test-core: $(STAMP)
	@$(MAKE) --no-print-directory test TESTS="$(CORE)"
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && \
	WANDB_MODE=disabled $(MAKE) --no-print-directory train ENV=pp_small ALGO=qmix ARGS="$(SMALL) --log.dir $$runs --log.name core" && \
	$(MAKE) --no-print-directory eval RUN=$$runs/core ARGS="--episodes 2"

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

format: $(STAMP)
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

# The stamp is written last, so that an interrupted installation is repeated.
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gpgrad needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module; install it (on Debian: python3-venv) or name another with PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV) (once, a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The site is written to build/site and read without a server or network: open build/site/index.html.
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "open build/site/index.html"

# Resolves for every platform and Python version at once; needs uv in the environment.
lock: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --upgrade pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .venv-* .cache .ruff_cache .hypothesis build dist *.egg-info
