# Two commands set everything up: `make demo` runs the main job on generated data, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extras of pyproject.toml that are no part of dev, for the tests that skip without them: make test EXTRAS=ray,supervision
EXTRAS ?=
comma := ,
INSTALLED := $(VENV)/.installed$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
# The tests look for real photographs and reference numbers here, and skip with a reason without them.
export AWEIGH_TEST_DATA
# Everything that calls TensorRT.
TENSORRT_MODULES := $(addprefix aweigh.runtime.backends.tensorrt.,backend lane library ports rtx) \
	$(addprefix aweigh.export.engine.,audit build network progress read_back targets)

.PHONY: demo test lint types types-tensorrt format protos docs pictures clean
demo: $(INSTALLED)
	rm -rf demo
	$(BIN)/aweigh demo --out demo

# Most tests compute on one thread and share nothing: two processes use both cores. Those of servers and live sources
# wait for each other with deadlines, so they run alone. All of it is run, whatever fails.
ALONE := tests/serve tests/runtime/live
test: $(INSTALLED)
	@failed=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS) $(addprefix --ignore=,$(ALONE)) || failed=1; \
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(ALONE) || failed=1; \
	exit $$failed

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not see the editable install, whose folders are mapped: it reads the installed wheel.
types: $(INSTALLED)
	rm -rf build && mkdir -p build/types
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p aweigh.runtime -p aweigh.train -p aweigh.export -p aweigh.serve
	MYPYPATH=build/types:benchmarks:tests/support:docs/site $(BIN)/mypy --explicit-package-bases benchmarks tests/support docs/site
	$(MAKE) --no-print-directory types-tensorrt

# Against the signatures of the real bindings, of both major versions and of TensorRT for RTX: a name that one of them
# lacks is an error. Those of RTX are made from the installed bindings, whose docstrings leave a few functions untyped.
types-tensorrt:
	@if [ -d "$(AWEIGH_TEST_DATA)/tensorrt/api" ]; then \
		for api in 10 11; do \
			echo "mypy against TensorRT $$api"; \
			MYPYPATH=build/types:$(AWEIGH_TEST_DATA)/tensorrt/api/$$api $(BIN)/mypy \
				--cache-dir .mypy_cache/tensorrt$$api $(foreach m,$(TENSORRT_MODULES) aweigh.export.jobs.torch_trt,-m $(m)) || exit 1; \
		done; \
	else \
		echo "skipped: mypy against TensorRT's API, no signatures in AWEIGH_TEST_DATA/tensorrt/api"; \
	fi
	@if $(BIN)/python -c "import tensorrt_rtx_bindings" 2>/dev/null; then \
		echo "mypy against TensorRT for RTX"; \
		$(BIN)/python tests/support/rtx_stubs.py build/rtx-api; \
		MYPYPATH=build/types:build/rtx-api $(BIN)/mypy --allow-untyped-calls --no-warn-unused-ignores \
			--cache-dir .mypy_cache/tensorrt-rtx $(foreach m,$(TENSORRT_MODULES),-m $(m)); \
	else \
		echo "skipped: mypy against TensorRT for RTX, which is not installed (make types EXTRAS=rtx)"; \
	fi

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, into build/site. Every link is checked; nothing is fetched.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The images of the documentation, into docs/pictures: needs Chromium and AWEIGH_TEST_DATA (datasets/bccd). ONLY=name,name
# MODEL=best.pt takes a checkpoint in place of the training.
pictures: $(INSTALLED)
	PYTHONPATH=tests/support:docs/site $(BIN)/python docs/site/pictures.py \
		--data "$(AWEIGH_TEST_DATA)/datasets/bccd" $(if $(ONLY),--only $(ONLY)) $(if $(MODEL),--model $(MODEL))

# The gRPC messages; a test compares the compiled file with its source.
protos: $(INSTALLED)
	$(BIN)/python -m grpc_tools.protoc -I serve/rpc --descriptor_set_out=serve/rpc/open_inference.binpb open_inference.proto

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'aweigh needs Python 3.11 or newer')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt pip setuptools wheel
	PYTHONWARNINGS="ignore:Editable installation" $(BIN)/pip install --quiet --no-build-isolation --constraint constraints.txt --editable ".[dev$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	touch $@

clean:
	rm -rf $(VENV) build demo
