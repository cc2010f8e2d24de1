# Two commands: `make demo` runs the main job, `make test` the tests. Both make the virtual environment they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
DEMO := LIMBECK_HOME=$(CURDIR)/.demo $(BIN)/limbeck

.PHONY: demo test test-slow lint types layers bench-training clean

demo: $(VENV)/ready  ## From labelled pairs and prompts to a distilled, measured, invoked student.
	$(DEMO) fine-tune examples/service-desk/teacher.yaml --resume > .demo-teacher.txt || { cat .demo-teacher.txt; exit 1; }
