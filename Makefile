# Each target works on a fresh machine, and again at once where there is nothing to do. `make help` lists them.

PYTHON ?= python3
PIP_ARGS ?=
RELEASE ?= voc-fcn8s

VENV := .venv
BIN := $(VENV)/bin
FCN_PORT := $(BIN)/fcn-port
WEIGHTS := $(or $(FCN_PORT_WEIGHTS),weights/files)
SAMPLE := weights/sample/fcn8s-mini.caffemodel
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo convert voc-numbers test check lint caffe-oracle test-oracle golden proto bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## the whole job on the bundled small release, with no network: convert, trace, check, segment
	@echo "== a Caffe file becomes a PyTorch file"
	@$(FCN_PORT) convert sample
	@echo; echo "== the shape of every blob of a 100x100 image, and what the crops keep"
	@$(FCN_PORT) trace sample 100x100
	@echo; echo "== every blob against what real Caffe computed"
	@$(FCN_PORT) verify $(WEIGHTS)/sample.safetensors --against $(SAMPLE) \
		--golden parity_tests/golden/formats/fcn8s-mini.npz
	@echo; echo "== an image, segmented"
	@$(FCN_PORT) predict sample weights/sample/shapes.png --out demo
	@echo "(The sample's weights are random: the labels mean nothing, but they are the ones that Caffe gives.)"
	@echo; echo "Next: look at demo/, then 'make convert' for the published FCN-8s (538 MB)."

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
	$(BIN)/python -m pytest --quiet -n 2

check: lint test ## lint, types and the suite

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

caffe-oracle: $(VENV)/ready-dev ## install real Caffe in a folder of its own (Linux, root, debootstrap; 850 MB)
	$(BIN)/python -m parity_tests.oracle.install

test-oracle: caffe-oracle ## compare live with real Caffe
	$(BIN)/python -m pytest --quiet -m oracle parity_tests

golden: caffe-oracle ## record the goldens again with real Caffe, and say how far they are from the committed ones
	$(BIN)/python -m parity_tests.oracle.record

proto: $(VENV)/ready-dev ## compile converters/caffe.proto after a change
	$(BIN)/python -m grpc_tools.protoc -Iconverters --descriptor_set_out=converters/caffe.desc converters/caffe.proto

bench: $(VENV)/ready-dev ## speed and memory, side by side with what a user would pick instead
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.evaluation_cost
	$(BIN)/python -m benchmarks.engines

clean: ## remove what make made, but no weights
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/ready $@
