# Everything runs in .venv, which `make` fills once. `make help` lists the targets.
PYTHON  ?= python3
DATASET ?= mnist5k
PRESET  ?= quick
SEED    ?= 0

PY    := .venv/bin/python
READY := .venv/.ready
STUDY := --dataset "$(DATASET)" --preset "$(PRESET)" --seed "$(SEED)" $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help study test test-full bench lab notebooks figures runs clean-runs

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{printf "make %-11s %s\n", $$1, $$2}'
	@echo 'study takes DATASET (mnist5k, mnist, fashion_mnist, cifar10, cifar10_jpeg, folder:PATH),'
	@echo 'PRESET (smoke, short, quick, best, paper), SEED, and in ARGS any option of python -m rag_lib notebooks, as in:'
	@echo 'make study DATASET=mnist PRESET=paper ARGS="--set gan.attention=none"'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Error: Python 3.11 or newer is needed; this is " + sys.version)'
	@echo 'Installing into .venv: a few minutes, and several gigabytes where pip takes a CUDA build of PyTorch (see README.md)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[timm,dev]'
	@touch $(READY)

study: $(READY)  ## run the notebooks 01 to 03, print the accuracy table and where the results lie
	@$(PY) -m rag_lib notebooks $(STUDY)

lab: $(READY)  ## open the notebooks in JupyterLab (127.0.0.1, with its token)
	JUPYTER_CONFIG_PATH=notebooks/.jupyter $(PY) -m jupyter lab --ip 127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/README.md

# The committed notebooks are compared against a run at preset smoke, in a results folder of its own; the report, which
# trains nothing, to the letter, against what is committed of the results.
test: $(READY)  ## check the style, run the tests, compare the committed notebooks
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pytest -m "not slow"
	results=$$(mktemp -d) && export RAG_RESULTS=$$results && \
	  RAG_SMOKE=1 $(PY) -m pytest --nbval-lax notebooks --ignore notebooks/06_report.ipynb && \
	  { git archive HEAD results | tar x -C $$results --strip-components 1 || cp -r results/tables results/samples $$results; } && \
	  $(PY) -m pytest --nbval notebooks/06_report.ipynb; \
	  status=$$?; rm -rf "$$results"; exit $$status

test-full: test  ## test, and what takes longer: learning, crashes, a Ray cluster, JupyterLab in a browser (Chromium, if there is one)
	$(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[timm,dev,browser,ray]'
	$(PY) -m pytest -m slow

bench: $(READY)  ## measure the speed of the training loops (20 minutes, on an idle machine)
	$(PY) tests/benchmarks/bench.py

figures: $(READY)  ## redraw every table and figure from the published results (seconds, nothing is trained)
	@mkdir -p results/notebooks && $(PY) -m papermill notebooks/06_report.ipynb results/notebooks/06_report.ipynb
	@echo 'figures in results/figures, tables in results/notebooks/06_report.ipynb'

# The runs are computed before the notebooks, so that no progress line ends up in what is committed.
notebooks: $(READY)  ## refresh the committed notebooks' outputs
	$(PY) -m rag_lib classify
	$(PY) -m rag_lib ablation --preset short --factors attention,output
	$(PY) -m rag_lib low-data --preset short --replicates 3 --set "classifiers={'cnn': 1}"
	for notebook in notebooks/*.ipynb; do $(PY) -m papermill "$$notebook" "$$notebook" || exit 1; done
	$(PY) -m nbstripout --keep-output --keep-count \
	  --extra-keys "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution" notebooks/*.ipynb

runs: $(READY)  ## list the finished and unfinished runs
	@$(PY) -m rag_lib runs

clean-runs: $(READY)  ## remove stale runs, and unfinished ones without a checkpoint
	@$(PY) -m rag_lib runs --clean
