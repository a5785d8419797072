# make demo    environment, package, a small real model, then the demonstration
# make test    environment, package, then the linter and the tests but for the slow ones
# make test-slow   the same, then the slow tests, one after the other
# make test-jazzy  the tests of the node, of dispatch/ and of the whole package on ROS 2 Jazzy, in .venv-jazzy
# make lint    the linter alone
# make docs    the generated parts of the documentation, written anew
# make clean   remove everything that was built, the environment included

# Another Python: make demo PYTHON=python3.12. docs/deploying.md says how torch then comes without CUDA.
PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JAZZY := .venv-jazzy

# What the installed package is made of. A change to any of it installs the package again: seconds, because CMake's
# build folder is kept and compiles only interfaces that changed. So no installed copy is ever older than the checkout.
FOLDERS := action cmake config examples launch msg resource scripts srv timebill_ros
FILES := CMakeLists.txt package.xml plugin.xml pyproject.toml setup.py
SOURCES := $(FILES) $(shell find $(FOLDERS) -type f -not -path '*/__pycache__/*' 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-jazzy lint docs clean always

# Where the model cannot be had, get-model says why, and the embedded one is shown.
demo: $(VENV)/.package
	$(BIN)/python -m timebill_ros.cli get-model smollm2 || true
	$(BIN)/python -m timebill_ros.cli demo

# Three files at a time, on two cores too: most tests wait for a node or a worker. Tests of one file share what they
# start.
test: lint $(VENV)/.package
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow" --durations 20

# Benches as a whole, steps compiled in several ways, colcon: alone on the machine, because some of them measure it.
test-slow: test
	$(BIN)/python -m pytest -m slow --durations 20

test-jazzy: $(JAZZY)/.package
	$(JAZZY)/bin/python -m pytest -n 2 --dist loadfile -m "not slow" --durations 20 test/node test/dispatch test/test_*.py

lint: $(VENV)/.requirements-test
	$(BIN)/ruff check --no-cache

docs:
	$(PYTHON) scripts/generate_docs.py

clean:
	rm -rf $(VENV) $(JAZZY) build install log timebill_ros.egg-info

# Each stamp is written last, so that a step that was interrupted runs again.
$(VENV)/.requirements: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements.txt
	touch $@

$(VENV)/.requirements-test: requirements-test.txt $(VENV)/.requirements
	$(PIP) install -r requirements-test.txt
	touch $@

# --no-build-isolation: the environment already holds what builds the package.
$(VENV)/.package: $(SOURCES) build/sources.txt $(VENV)/.requirements
	$(PIP) install --quiet --no-build-isolation --no-deps .
	touch $@

$(JAZZY)/.requirements: requirements-jazzy.txt
	$(PYTHON) -m venv $(JAZZY)
	$(JAZZY)/bin/python -m pip --disable-pip-version-check install -r requirements-jazzy.txt
	touch $@

# In a build folder of its own, which setuptools reads from a file: CMake's files are those of one ROS 2.
$(JAZZY)/.package: $(SOURCES) build/sources.txt $(JAZZY)/.requirements
	printf '[build]\nbuild_base = build/jazzy\n' > $(JAZZY)/build.cfg
	DIST_EXTRA_CONFIG=$(CURDIR)/$(JAZZY)/build.cfg $(JAZZY)/bin/python -m pip --disable-pip-version-check install \
	    --quiet --no-build-isolation --no-deps .
	touch $@

# The names, rewritten only when one came or went: no time stamp tells of a file that was deleted.
build/sources.txt: always
	@mkdir -p build
	@printf '%s\n' $(sort $(SOURCES)) | cmp -s - $@ || printf '%s\n' $(sort $(SOURCES)) > $@
