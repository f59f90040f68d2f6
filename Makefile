# Serfuse. `make` prints what there is; every target that computes makes .venv first.
# Variables may be given on the command line: make extract MODEL=xlsr-1b DEVICE=cuda:1

RECIPE ?= recipes/emotion-share.toml
SET ?=
MODEL ?=
HEAD ?=
CORPUS ?=
A ?=
B ?=
TO ?=
COMPARE ?=
DATA ?= data
STORES ?= stores
RUNS ?= runs
DEVICE ?= auto
PRECISION ?=
JOBS ?= -1
CLUSTER ?=
FORCE ?=
VERIFY ?=
WAIT ?=
BREAK_LOCK ?=
ALLOW_FAILURES ?= 0
AUDIO ?=
FUSION ?=
OUT ?=
RUN ?=
TEMPLATE ?=
EXTRAS ?= demo,opensmile,dev
PYTHON ?=
PYTHON3 ?= python3

# A variable of the command line that is none of these is a slip, unlike one of the environment.
known := $(shell sed -n 's/^\([A-Z][A-Z0-9_]*\) ?=.*/\1/p' '$(firstword $(MAKEFILE_LIST))')
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
ifneq ($(filter-out $(known) SHELL MAKEFLAGS,$(given)),)
$(error $(shell "$(or $(PYTHON),$(PYTHON3))" -c 'import difflib; near = lambda name: \
	difflib.get_close_matches(name.upper(), "$(known)".split(), 1); print("; ".join( \
	f"no variable {name}" + "".join(f"; did you mean {other}" for other in near(name)) \
	for name in "$(filter-out $(known) SHELL MAKEFLAGS,$(given))".split()))'))
endif

comma := ,

# The user's own environment as it is, or one that is made here and remade when the versions change.
ifeq ($(strip $(PYTHON)),)
PY := .venv/bin/python
READY := .venv/.ready-$(subst $(eval ) ,-,$(subst $(comma),-,$(EXTRAS)))
else
PY := $(PYTHON)
READY :=
endif
forced := $(if $(filter-out 0,$(FORCE)),--force)
locking := $(if $(filter-out 0,$(WAIT)),--wait) $(if $(filter-out 0,$(BREAK_LOCK)),--break-lock)
set := $(if $(strip $(SET)),--set '$(subst ','\'',$(SET))')
some := $(if $(CORPUS),--corpus "$(CORPUS)") $(set)
heads := $(if $(MODEL),--model "$(MODEL)") $(if $(HEAD),--head "$(HEAD)")
cluster := $(if $(CLUSTER),--cluster "$(CLUSTER)")
# Of several targets on one line, the last that scores prints the tables.
before = $(if $(filter $(1),$(MAKECMDGOALS)),--quiet)
compare = exec "$(PY)" -m evaluate compare $(or $(COMPARE),$(if $(A),"$(A)") $(if $(B),"$(B)")) $(if $(TO),--to "$(TO)")
both = test -n "$(or $(word 2,$(COMPARE)),$(and $(A),$(B)))" || { echo 'two folders of runs are compared:' \
	'make compare A=runs/a B=runs/b [TO=table.csv], make report COMPARE="runs/a runs/b"; got' \
	'A=$(A) B=$(B) COMPARE=$(COMPARE)'; exit 1; };
system := $(set) $(if $(FUSION),--fusion "$(FUSION)") $(if $(MODEL),--model "$(MODEL)")
demonstrated = $(if $(filter command,$(firstword $(origin RECIPE))),$(RECIPE),recipes/demo.toml)
# Of networks: other heads are fitted on the CPU.
trained = --device $(DEVICE) $(if $(PRECISION),--precision $(PRECISION))
submitted = $(or $(OUT),$(RUNS)/$(basename $(notdir $(RECIPE)))/submission/test.csv)
quick := not process and not browser and not slow
spread := -q -n auto --dist loadfile
where = --stores "$(STORES)" --runs "$(RUNS)"

# `exec` in recipes: a command is make's own child, and a SIGTERM to make reaches it.
.DEFAULT_GOAL := help
.PHONY: help demo demo-neural plan fetch extract lint-split train layers fuse score report compare predict reproduce \
	submission status test test-all lint bench fuzz clean
.NOTPARALLEL:

help:  ## this list
	@echo "make TARGET [RECIPE=$(RECIPE)] [MODEL=a,b] [HEAD=a,b] [CORPUS=x]"
	@echo "     [DATA=$(DATA)] [STORES=$(STORES)] [RUNS=$(RUNS)] [JOBS=n] [FORCE=1] [VERIFY=1]"
	@echo "     [SET='head.layer=best models.mine.path=/weights/mine': keys of the recipe]"
	@echo "     [DEVICE=auto|cpu|cuda|cuda:1|mps] [PRECISION=float32|bfloat16|float16]"
	@echo "     [CLUSTER=local:N|tcp://host:port|slurm[:file]] [WAIT=1] [BREAK_LOCK=1]"
	@echo "     [ALLOW_FAILURES=n] [PYTHON=/your/python] [EXTRAS=$(EXTRAS)]"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## */  \1|/p' Makefile | awk -F'|' '{printf "%-14s%s\n", $$1, $$2}'

demo-neural: RECIPE := recipes/demo-neural.toml
demo-neural: demonstrated := recipes/demo-neural.toml
demo-neural: demo  ## networks beside a linear SVM on the same corpus

demo: $(READY)  ## the whole job on a synthesised corpus: nothing to fetch, no GPU
	@exec "$(PY)" -m features.corpora.demo "$(DATA)/demo"
	@exec $(MAKE) --no-print-directory extract train fuse report RECIPE="$(demonstrated)"

plan: $(READY)  ## what an extraction would take: audio, batches, time, disk
	@exec "$(PY)" -m extract plan "$(RECIPE)" --data "$(DATA)" --stores "$(STORES)" --device $(DEVICE) --jobs $(JOBS) \
		$(some) $(forced) $(if $(MODEL),--model "$(MODEL)" --listed) $(if $(PRECISION),--precision $(PRECISION))

fetch: $(READY)  ## download weights, record their hashes; then no network is needed
	@exec "$(PY)" -m extract fetch "$(RECIPE)" --stores "$(STORES)" $(set) $(if $(MODEL),--model "$(MODEL)" --listed)

extract: $(READY)  ## audio -> stores: all layers of each model (the step for a GPU)
	@exec "$(PY)" -m extract extract "$(RECIPE)" --data "$(DATA)" --stores "$(STORES)" --device $(DEVICE) --jobs $(JOBS) \
		--allow-failures $(ALLOW_FAILURES) $(some) $(forced) $(locking) $(cluster) $(if $(filter-out 0,$(VERIFY)),--verify) \
		$(if $(MODEL),--model "$(MODEL)" --listed) $(if $(PRECISION),--precision $(PRECISION))

lint-split: $(READY)  ## what the sides of a recipe's folds share; training checks it, too
	@exec "$(PY)" -m features lint "$(RECIPE)" --stores "$(STORES)" $(some)

train: $(READY)  ## stores -> heads and predictions; networks on DEVICE, all others on the CPU
	@exec "$(PY)" -m models train "$(RECIPE)" --data "$(DATA)" $(where) --jobs $(JOBS) $(some) $(forced) \
		--allow-failures $(ALLOW_FAILURES) $(cluster) $(heads) $(trained)
	@exec "$(PY)" -m evaluate score "$(RECIPE)" $(where) $(some) $(call before,fuse score report)

layers: $(READY)  ## heads on every layer of the stores; which layer is best
	@exec "$(PY)" -m models train "$(RECIPE)" --layers --data "$(DATA)" $(where) --jobs $(JOBS) $(some) $(forced) \
		--allow-failures $(ALLOW_FAILURES) $(cluster) $(heads) $(trained)
	@exec "$(PY)" -m evaluate layers "$(RECIPE)" $(where) $(some) $(heads)

fuse: $(READY)  ## predictions -> fused predictions and scores
	@exec "$(PY)" -m fusion fuse "$(RECIPE)" $(where) $(some) $(forced)
	@exec "$(PY)" -m evaluate score "$(RECIPE)" $(where) $(some) $(call before,score report)

score: $(READY)  ## score finished runs again (new statistics need no new training)
	@exec "$(PY)" -m evaluate score "$(RECIPE)" $(where) $(some) --force $(call before,report)

report: $(READY)  ## pages, tables, figures; COMPARE="runs/a runs/b": of two recipes
	@$(if $(strip $(COMPARE)),$(both) $(compare) --report,exec "$(PY)" -m evaluate report "$(RECIPE)" --data "$(DATA)" $(where) $(some))

compare: $(READY)  ## two recipes' runs side by side: A=runs/a B=runs/b [TO=table.csv]
	@$(both) $(compare)

predict: $(READY)  ## AUDIO="folder or files": finished heads and fusion on new audio
	@test -n '$(subst ','\'',$(AUDIO))' || { \
		echo 'make predict AUDIO="folder or files" [FUSION=name | MODEL=run] [OUT=file.csv]'; \
		echo 'a name with a blank is quoted twice: AUDIO="'"'new audio' 'it is.wav'"'"'; exit 1; }
	@exec "$(PY)" -m models predict "$(RECIPE)" $(where) $(system) --check --audio $(AUDIO)
	@exec "$(PY)" -m extract extract "$(RECIPE)" --stores "$(STORES)" --device $(DEVICE) --jobs $(JOBS) $(system) \
		$(if $(PRECISION),--precision $(PRECISION)) $(forced) $(locking) --audio $(AUDIO)
	@exec "$(PY)" -m models predict "$(RECIPE)" $(where) $(system) --audio $(AUDIO)
	@exec "$(PY)" -m fusion predict "$(RECIPE)" $(where) $(system) --allow-failures $(ALLOW_FAILURES) \
		$(if $(OUT),--to "$(OUT)") --audio $(AUDIO)

reproduce: $(READY)  ## RUN=runs/<recipe>/<member>: make a run again; what differs first
	@test -n "$(RUN)" || { echo 'make reproduce RUN=runs/<recipe>/<member>, or RUN=runs/<recipe>/fusion/<name>'; exit 1; }
	@case "$(RUN)" in */fusion/*) room=fusion more=;; *) room=models more="--jobs $(JOBS) --device $(DEVICE)";; esac; \
		exec "$(PY)" -m $$room reproduce "$(RUN)" --stores "$(STORES)" $$more

submission: $(READY)  ## OUT=file.csv [TEMPLATE=lab/test.csv]: predictions for ComParE
	@exec "$(PY)" -m evaluate submission "$(RECIPE)" $(where) $(system) $(if $(TEMPLATE),--template "$(TEMPLATE)") \
		--to "$(submitted)" --predictions "$$(dirname "$(submitted)")"

status: $(READY)  ## which stores of the recipe are complete
	@exec "$(PY)" -m features status "$(RECIPE)" --stores "$(STORES)" $(some) $(if $(MODEL),--model "$(MODEL)")

test: $(READY)  ## the tests that are quick and need no processes of their own
	exec "$(PY)" -m pytest $(spread) -m "$(quick)"

test-all: $(READY)  ## all tests: slow ones, kills, the browser, too; prints coverage
	@rm -f .coverage .coverage.*
	"$(PY)" -m coverage run -m pytest $(spread) -m "$(quick)"
	@"$(PY)" -m coverage combine -q
	@"$(PY)" -m coverage report --sort=-cover | tail -n 14
	exec "$(PY)" -m pytest -q -m "process or browser or slow"

lint: $(READY)  ## format, style and types
	exec "$(PY)" -m ruff format --check .
	exec "$(PY)" -m ruff check .
	exec "$(PY)" -m mypy

bench: $(READY)  ## the benchmarks in a short form
	exec "$(PY)" -m benchmarks.extract --small
	exec "$(PY)" -m benchmarks.audio --small
	exec "$(PY)" -m benchmarks.precision --small
	exec "$(PY)" -m benchmarks.memory --small
	exec "$(PY)" -m benchmarks.store --small
	exec "$(PY)" -m benchmarks.cluster --small
	exec "$(PY)" -m benchmarks.kill_storm --small
	exec "$(PY)" -m benchmarks.heads --small
	exec "$(PY)" -m benchmarks.subsets --small
	exec "$(PY)" -m benchmarks.resampling --small

fuzz: $(READY)  ## hunt for files that crash a reader (many minutes)
	SERFUSE_FUZZ=2000 "$(PY)" -m pytest -q tests/fuzz tests/features/test_hdf5.py

clean:  ## remove .venv and caches; data, stores and runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.ready-%: setup.cfg constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Serfuse needs Python 3.11 or newer; name one with PYTHON3=/path/to/python3"; exit 1; }
	@echo "making .venv (a few minutes, once)"
	@rm -rf .venv && $(PYTHON3) -m venv .venv
	@.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
