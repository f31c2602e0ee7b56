# Every target sets itself up from a bare clone: a virtual environment in .venv, reused when it is there.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready

.PHONY: test test-all lint demo bench ops clean

test: $(READY)  ## fast tests, no network, weights or GPU
	$(PY) -m pytest -m "not slow and not gpu and not detectron2" $(ARGS)

test-all: $(READY)  ## also the slow ones, and those for a GPU or detectron2 where there is one
	$(PY) -m pytest $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m mypy

demo: $(READY)  ## parse real photos and say where the pictures are
	$(PY) tools/demo.py

bench: $(READY)  ## the op and the model, as ratios
	$(PY) tools/benchmark_ops.py
	$(PY) tools/benchmark_model.py

ops: $(READY)  ## rebuild the native library in place
	$(PY) setup.py build_ops

$(READY): setup.py pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q "torch>=2.10" torchvision
	$(PY) -m pip install -q -e ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv build *.egg-info
