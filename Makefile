# Everything runs in .venv, which `make` fills once. `make help` lists the targets.
PYTHON  ?= python3
DATASET ?= mnist5k
PRESET  ?= first
SEED    ?= 0

PY    := .venv/bin/python
READY := .venv/.ready
STUDY := --dataset "$(DATASET)" --preset "$(PRESET)" --seed "$(SEED)" $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help study test test-full bench lab notebooks figures docs runs clean-runs

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{printf "make %-11s %s\n", $$1, $$2}'
	@echo 'study takes DATASET (mnist5k, mnist, fashion_mnist, cifar10, cifar10_jpeg, folder:PATH),'
	@echo 'PRESET (smoke, first, short, quick, best, paper), SEED, and in ARGS any option of python -m rag_lib notebooks, as in:'
	@echo 'make study DATASET=mnist PRESET=paper ARGS="--set gan.attention=none"'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11, 4) or sys.exit("Error: Python 3.11.4 or newer is needed; this is " + sys.version)'
	@echo 'Installing into .venv: a few minutes, and several gigabytes where pip takes a CUDA build of PyTorch (see README.md)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[timm,dev]'
	@touch $(READY)

study: $(READY)  ## run the notebooks 01 to 03 and print the accuracy table; NAME=few_digits: compute that published study
	@$(PY) -m rag_lib $(if $(NAME),study "$(NAME)" $(ARGS),notebooks $(STUDY))

lab: $(READY)  ## open the notebooks in JupyterLab (127.0.0.1, with its token)
	JUPYTER_CONFIG_PATH=notebooks/.jupyter $(PY) -m jupyter lab --ip 127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/README.md

# Two processes of one thread finish sooner than one of two: most of a test is Python. A file stays in one process, since
# its tests share what is costly, and since the cells of a notebook come in order.
IN_PARALLEL := -n logical --maxprocesses 4 --dist loadfile
test: export OMP_NUM_THREADS := 1
# The committed notebooks are compared against a run at preset smoke, in a results folder of its own; 06 and 07, which
# train nothing, to the letter, against what is committed of the results.
REPORTS := notebooks/06_report.ipynb notebooks/07_details.ipynb
test: $(READY)  ## check the style, run the tests, compare the committed notebooks
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pytest -m "not slow" $(IN_PARALLEL)
	results=$$(mktemp -d) && export RAG_RESULTS=$$results && \
	  RAG_SMOKE=1 $(PY) -m pytest $(IN_PARALLEL) --nbval-lax notebooks $(addprefix --ignore ,$(REPORTS)) && \
	  { git archive HEAD results | tar x -C $$results --strip-components 1 || cp -r results/tables results/studies.toml $$results; } && \
	  $(PY) -m pytest $(IN_PARALLEL) --nbval $(REPORTS); \
	  status=$$?; rm -rf "$$results"; exit $$status

test-full: test  ## test, and what takes longer: learning, crashes, a Ray cluster, JupyterLab in a browser (Chromium, if there is one)
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[timm,dev,browser,ray]'
	$(PY) -m pytest -m slow

bench: $(READY)  ## measure the speed of the training loops (20 minutes, on an idle machine)
	$(PY) tests/benchmarks/bench.py

# A notebook executed in place, and stripped of what changes from one time to the next.
STRIP   := -m nbstripout --keep-output --keep-count \
  --extra-keys "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution"
EXECUTE = $(PY) -m papermill $(1) $(1) && $(PY) $(STRIP) $(1)

figures: $(READY)  ## redraw notebooks 06 and 07 and every committed figure from the published results (nothing is trained)
	for notebook in $(REPORTS); do $(call EXECUTE,"$$notebook") || exit 1; done

docs: $(READY)  ## print the generated blocks of README.md and docs/ anew from the published results
	$(PY) -m cogapp -r -P -I tools -p "import docs, results" README.md README.zh-CN.md docs/*.md

# The runs are computed before the notebooks, so that no progress line ends up in what is committed.
notebooks: $(READY)  ## refresh the committed notebooks' outputs
	for study in first notebook_04 notebook_05; do $(PY) -m rag_lib study $$study || exit 1; done
	for notebook in notebooks/0[1-5]*.ipynb; do $(call EXECUTE,"$$notebook") || exit 1; done
	$(MAKE) figures

runs: $(READY)  ## list the finished and unfinished runs
	@$(PY) -m rag_lib runs

clean-runs: $(READY)  ## remove stale runs, and unfinished ones without a checkpoint
	@$(PY) -m rag_lib runs --clean
