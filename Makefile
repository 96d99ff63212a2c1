# Each target works on a fresh machine, and again at once where there is nothing to do. `make help` lists them.

PYTHON ?= python3
PIP_ARGS ?=
RELEASE ?= voc-fcn8s
SECONDS ?= 20
JOBS ?= 2
TARGETS ?=
KILLS ?= 200
SEED ?= 1
IMAGES ?= 60
SPLIT ?=
WRITE ?=

VENV := .venv
BIN := $(VENV)/bin
FCN_PORT := $(BIN)/fcn-port
WEIGHTS := $(or $(FCN_PORT_WEIGHTS),weights/files)
SAMPLE := weights/sample/shapes-fcn8s.caffemodel
SHAPES := build/sample
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)

# A PYTHON that was asked for counts: what is installed for another one goes.
ifeq ($(origin PYTHON)$(findstring n,$(firstword -$(MAKEFLAGS))),command line)
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
$(shell $(PYTHON) .ci/venv.py $(VENV) --outdated)
endif
endif

# The test modules that have a marker: collecting all modules for a few tests takes half a minute.
marked = $(shell grep -rlw --include='test_*.py' 'mark\.$(1)' parity_tests)

# The project's modules, compiled once: no process that a test starts keeps what it compiles, a third of a second for `predict`.
COMPILED = @$(BIN)/python -m compileall -q converters weights fcn_port parity_tests

.DEFAULT_GOAL := help
.PHONY: help demo gallery sample convert voc-numbers test test-again check fuzz lint caffe-oracle test-oracle golden proto bench clean test-kill docs-generated release test-fast test-native-sanitized test-native-aarch64 check-oldest check-pythons docs notebooks check-links opencv5 test-opencv5 test-ray extras

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## the whole job on the bundled small release, with no network: convert, trace, check, segment, report
	@$(FCN_PORT) demo

gallery: $(VENV)/ready ## a page with your VOC images, what a net sees in them, and the scores: make gallery VOC=VOCdevkit/VOC2011
	@test -n "$(VOC)" || { echo "say where the images are: make gallery VOC=VOCdevkit/VOC2011"; exit 2; }
	@$(FCN_PORT) report $(RELEASE) --data "$(VOC)" $(if $(SPLIT),--split $(SPLIT)) --limit $(IMAGES) --images 12 --out gallery.html
	@echo "Open gallery.html"

sample: $(VENV)/ready ## train the small release again, in a quarter of an hour: data, training, export, score
	@rm -rf $(SHAPES)
	@$(FCN_PORT) data shapes --make $(SHAPES)/train --count 1200 --seed 1 --val 0
	@$(FCN_PORT) data shapes --make $(SHAPES)/held-out --count 60 --seed 2 --val 1
	@OMP_NUM_THREADS=1 $(FCN_PORT) train shapes-fcn8s --data $(SHAPES)/train --val-data $(SHAPES)/held-out \
		--val-every 1000 --out $(SHAPES)/run
	@$(FCN_PORT) export $(SHAPES)/run/shapes-fcn8s.safetensors --to caffe --out $(SAMPLE)
	@rm -f $(WEIGHTS)/shapes-fcn8s.* $(WEIGHTS)/sample.safetensors
	@$(BIN)/python -m parity_tests.record_sample $(SHAPES)/held-out

convert: $(VENV)/ready ## download, check and port a published release: make convert RELEASE=voc-fcn32s
	@$(FCN_PORT) convert $(RELEASE)
	@echo; echo "== the shape of every blob of a 100x100 image, and what the crops keep"
	@$(FCN_PORT) trace $(RELEASE) 100x100
	@echo; echo "== the converted file against the Caffe file"
	@$(FCN_PORT) verify $(RELEASE)
	@echo; echo "Next: $(FCN_PORT) predict $(RELEASE) IMAGE.jpg"

voc-numbers: $(VENV)/ready ## the paper's table with our numbers beside it: make voc-numbers VOC=VOCdevkit/VOC2011
	@test -n "$(VOC)" || { echo "say where the images are: make voc-numbers VOC=VOCdevkit/VOC2011"; exit 2; }
	$(FCN_PORT) evaluate voc-fcn32s voc-fcn16s voc-fcn8s voc-fcn8s-atonce voc-fcn-alexnet \
		--data "$(VOC)" --split seg11valid --markdown voc-numbers.md

test: $(VENV)/ready-dev ## the whole test suite
	$(COMPILED)
	$(BIN)/python -m pytest --quiet -n 2

test-again: $(VENV)/ready-dev ## the tests that failed the last time, one after another
	$(BIN)/python -m pytest --quiet --last-failed --last-failed-no-failures none

test-fast: $(VENV)/ready-dev ## the fast part of the suite, in a minute on two quiet cores
	$(COMPILED)
	$(BIN)/python -m pytest --quiet -n 2 --dist loadfile --fast

test-native-sanitized: $(VENV)/ready-dev ## the C code under address, undefined-behaviour and thread sanitizers, in a few minutes
	$(BIN)/python -m pytest --quiet --durations 9 -m sanitized parity_tests/fastpath

test-native-aarch64: $(VENV)/ready-dev ## the C code for aarch64, in qemu-user (Debian: gcc-aarch64-linux-gnu, qemu-user)
	$(BIN)/python -m pytest --quiet -m aarch64 parity_tests/fastpath

check: lint test ## lint, format, types and the suite

extras: $(VENV)/ready-extras ## install what videos and maps need (72 MB), so that their tests run, too

check-oldest: $(VENV)/ready-oldest ## the fast part of the suite with the lower bounds of pyproject.toml
	$(BIN)/python .ci/oldest.py

check-pythons: $(VENV)/ready-oldest ## constraints.txt on Python 3.10 to 3.13, and what needs no torch on those that are here
	$(BIN)/python .ci/pythons.py

fuzz: $(VENV)/ready-fuzz ## every reader against bytes that nobody meant: make fuzz SECONDS=600 TARGETS="net h5" SEED=2
	$(BIN)/python -m parity_tests.fuzz $(TARGETS) --seconds $(SECONDS) --jobs $(JOBS) --seed $(SEED)

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-kill: $(VENV)/ready-dev ## kill every verb that writes, 200 times at random moments: make test-kill KILLS=1000 SEED=7
	$(BIN)/python -m parity_tests.kills --count $(KILLS) --seed $(SEED)

caffe-oracle: $(VENV)/ready-dev ## install real Caffe in a folder of its own (Linux, root, debootstrap; 850 MB)
	$(BIN)/python -m parity_tests.oracle.install

test-oracle: caffe-oracle ## compare live with real Caffe
	$(COMPILED)
	$(BIN)/python -m pytest --quiet -n 2 -m oracle $(call marked,oracle)

golden: caffe-oracle ## record the goldens again with real Caffe, and say how far they are from the committed ones
	$(BIN)/python -m parity_tests.oracle.record

opencv5: $(VENV)/ready-dev ## install OpenCV 5, which cannot live beside 4, in an environment of its own without torch
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python -m parity_tests.opencv5.install

test-opencv5: opencv5 ## run nets in both engines of OpenCV 5, beside Caffe's numbers
	$(COMPILED)
	$(BIN)/python -m pytest --quiet -n 2 -m opencv5 $(call marked,opencv5)

test-ray: $(VENV)/ready-dev ## share images out on a Ray cluster of two nodes, with workers killed, in an environment of its own
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python -m parity_tests.cluster.install
	.ray/bin/python -m pytest --quiet -m ray parity_tests/cluster

docs-generated: $(VENV)/ready-dev ## write docs/cli.md, docs/api.md, docs/layers.md and the table of layer types from the code
	$(BIN)/python -m docs.generate

docs: $(VENV)/ready-docs ## the documentation as a site, with search, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict # with --quiet it passes over the warnings that are to end it
	@echo "build/site/index.html; with its search: $(BIN)/python -m http.server 8000 --directory build/site"

notebooks: $(VENV)/ready-notebooks ## run the notebooks; with WRITE=--write keep what they show
	$(BIN)/python -m docs.generate.notebooks $(WRITE)

check-links: $(VENV)/ready-dev ## ask every address in README, docs and the catalogue whether it is still there
	$(BIN)/python -m parity_tests.docs.links

release: $(VENV)/ready-release ## build sdist and wheel, check them, and use the wheel in an empty environment elsewhere
	PIP_ARGS="$(PIP_ARGS)" BIN=$(BIN) .ci/release

proto: $(VENV)/ready-dev ## compile converters/caffe.proto after a change
	$(BIN)/python -m grpc_tools.protoc -Iconverters --descriptor_set_out=converters/caffe.desc converters/caffe.proto

bench: $(VENV)/ready-bench ## speed and memory, side by side with what a user would pick instead; tables and a plot in build/
	@mkdir -p build
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.onnx_export
	$(BIN)/python -m benchmarks.evaluation_cost
	$(BIN)/python -m benchmarks.columns
	$(BIN)/python -m benchmarks.engines --sizes 128 256 375 500 --json build/engines.json --plot build/engines.png
	$(BIN)/python -m benchmarks.famous_nets --json build/famous_nets.json
	$(BIN)/python -m benchmarks.memory --json build/memory.json
	$(BIN)/python -m benchmarks.first_result --json build/first_result.json
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.serving

clean: ## remove what make made, but no weights
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) .ci/venv.py $(VENV)
	$(INSTALL) --editable '.[torch]'
	@touch $@

$(VENV)/ready-dev: pyproject.toml constraints.txt
	@$(PYTHON) .ci/venv.py $(VENV)
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/ready $@

$(VENV)/ready-fuzz: $(VENV)/ready-dev
	$(INSTALL) --editable '.[fuzz]'
	@touch $@

$(VENV)/ready-release: $(VENV)/ready-dev
	$(INSTALL) --editable '.[release]'
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready-dev
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/ready-notebooks: $(VENV)/ready-dev
	$(INSTALL) --editable '.[notebooks]'
	@touch $@

$(VENV)/ready-oldest: $(VENV)/ready-dev
	$(INSTALL) --editable '.[oldest]'
	@touch $@

$(VENV)/ready-extras: $(VENV)/ready-dev
	$(INSTALL) --editable '.[video,geo]'
	@touch $@

$(VENV)/ready-bench: $(VENV)/ready-dev
	$(INSTALL) --editable '.[bench]'
	@touch $@
