# `make demo` and `make test` set everything up by themselves, in .venv inside the clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
READY := $(VENV)/.ready
TESTING := $(VENV)/.testing
# `make test PACKAGE=data` runs the tests of one package.
TESTS := $(if $(PACKAGE),tests/$(PACKAGE),tests)
# Two processes: most tests keep one core busy. A file's tests share fixtures and so a process.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile

.PHONY: demo cifar test test-slow test-colab lint format types docs bench buildifier clean

# On the demo's page.
NOTE := "All images of a class are crops of one photograph (no pixel is both in training and validation): this shows that \
the pipeline works. It says nothing about photographs of other things, and nothing about ImageNet."

# From end to end: photographs, records, training on two replicas, evaluation, a SavedModel, predictions.
# Each step skips what is already there, so a second `make demo` is quick.
demo: $(READY)
	@echo "Images: cutting 1,500 for training and 300 for validation out of real photographs."
	@$(BIN)/python -m data_prep.photos --output=$(DEMO)/photographs
	@echo "Records: turning the images into a data set that TensorFlow reads fast."
	@$(BIN)/python -m data_prep.convert --source=$(DEMO)/photographs --output=$(DEMO)/records
	@echo "Baseline: what a simple method reaches, to compare with."
	@$(BIN)/python benchmarks/histogram_baseline.py --data_dir=$(DEMO)/records
	@echo "Training: AlexNet with its 60 million parameters, from random weights (minutes)."
	@$(BIN)/python -m alexnet_tf.train --strategy=mirrored --recipe=quickstart --data_dir=$(DEMO)/records --workdir=$(DEMO)/run
	@echo "Evaluation: the validation images, each seen once, then in ten crops."
	@$(BIN)/python -m alexnet_tf.evaluate --model=$(DEMO)/run --data_dir=$(DEMO)/records --crops=1 --output=$(DEMO)/evaluation_1_crop.json > $(DEMO)/evaluation_1_crop.txt
	@head -n 3 $(DEMO)/evaluation_1_crop.txt
	@$(BIN)/python -m alexnet_tf.evaluate --model=$(DEMO)/run --data_dir=$(DEMO)/records --crops=10 --output=$(DEMO)/evaluation_10_crops.json > $(DEMO)/evaluation_10_crops.txt
	@head -n 3 $(DEMO)/evaluation_10_crops.txt
	@echo "Export: a SavedModel for TF Serving, and predictions from it without this package."
	@test -d saved_models/alexnet/1 || $(BIN)/python -m alexnet_tf.export --model=$(DEMO)/run --output=saved_models/alexnet --version=1
	@$(BIN)/python saved_models/predict_example.py saved_models/alexnet/1 $$(ls $(DEMO)/photographs/val/*/*.jpg | awk 'NR % 40 == 1')
	@echo "Pages: what the network learned, as an image and as a site."
	@$(BIN)/python -m alexnet_tf.analyze run --workdir=$(DEMO)/run --data_dir=$(DEMO)/records --output=$(DEMO)/page.png --note=$(NOTE)
	@$(BIN)/python -m alexnet_tf.atlas --model=$(DEMO)/run --data_dir=$(DEMO)/records --output=$(DEMO)/atlas --units=4 --images=7 --steps=32 --places=8
	@echo
	@echo "The data set        $(DEMO)/records"
	@echo "The trained network $(DEMO)/run/model.keras"
	@echo "For TF Serving      saved_models/alexnet/1"
	@echo "To look at          $(DEMO)/page.png"
	@echo "In a browser        $(DEMO)/atlas/index.html"
	@echo "Curves              $(BIN)/tensorboard --logdir=$(DEMO)/run"

# The paper's claims on the paper's data: CIFAR-10, fetched through TFDS. `make cifar CIFAR10=DIR` takes a
# prepared data set instead. Hours on a processor; started again it goes on.
CIFAR10 ?= tfds:cifar10
cifar: $(READY)
	$(BIN)/python -m alexnet_tf.reproduce fig1 --data_dir=$(CIFAR10) --seeds=0,1,2 --workdir=cifar/fig1
	$(BIN)/python -m alexnet_tf.reproduce cifar10 --scale=small --data_dir=$(CIFAR10) --workdir=cifar/short
	$(BIN)/python -m alexnet_tf.reproduce ablations --scale=small --data_dir=$(CIFAR10) --seeds=0,1,2 --workdir=cifar/ablations
	@echo
	@echo "Figure 1            cifar/fig1/report.html"
	@echo "The two networks    cifar/short/report.html"
	@echo "AlexNet's ablations cifar/ablations/report.html"

test: $(TESTING)
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(TESTING)
	$(PYTEST) -m slow $(TESTS)

# Beam, also on a Dask cluster of three processes, in an environment of its own: it takes an older protobuf.
test-beam:
	$(PYTHON) -m venv build/beam
	build/beam/bin/python -m pip install --quiet --editable ".[beam]" "apache-beam[dask]" pytest
	build/beam/bin/python -m pytest -q tests/data_prep/test_beam.py tests/data_prep/test_beam_on_dask.py

# The notebook with the versions that Google Colab ships, on this Python, in an environment of its own.
test-colab: $(TESTING)
	mkdir -p build && cp tests/testdata/colab.txt build/colab.txt
	$(BIN)/uv pip compile --quiet --extra notebook --python $(BIN)/python --output-file build/colab.txt setup.py
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/colab
	$(BIN)/uv pip install --quiet --python build/colab/bin/python --requirement build/colab.txt --editable . pytest safetensors
	build/colab/bin/python -m pytest -q -m slow tests/test_notebook.py

lint: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(TESTING)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(TESTING)
	$(BIN)/python -m mypy

# The pages of docs/ and the reference from the docstrings, in site/; a warning is an error.
docs: $(TESTING)
	$(BIN)/python -m mkdocs build --strict --quiet

# BUILD and MODULE.bazel as Bazel's own formatter wants them; needs npm.
buildifier:
	npx --yes @bazel/buildifier@8.2.1 --lint=warn BUILD MODULE.bazel

# What Bazel installs: the versions that .[dev] comes to in an empty environment.
requirements_lock.txt: setup.py
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --editable ".[dev]"
	(echo "# What .[dev] was installed as on Python 3.11, for Bazel; made by \`make requirements_lock.txt\`."; build/lock/bin/python -m pip freeze --exclude-editable) > $@

# The tables of benchmarks/README.md: this package alone first, then beside its peers, on a quiet machine.
# What needs data of yours has a command of its own: benchmarks/lenet5.py, benchmarks/quickstart.py.
bench: $(TESTING)
	$(BIN)/python -m alexnet_tf.benchmark step --strategy=none,mirrored --output=benchmarks/results/step.json
	$(BIN)/python -m alexnet_tf.benchmark input --output=benchmarks/results/input.json
	$(BIN)/python -m alexnet_tf.benchmark train --output=benchmarks/results/train.json
	$(BIN)/python -m alexnet_tf.benchmark serve --output=benchmarks/results/serve.json
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/emulated_cores.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/small_networks.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/parallelism.py
	$(BIN)/python benchmarks/data_prep.py
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf $(VENV) $(DEMO) cifar build dist site *.egg-info

# Written last, so that an interrupted installation starts again.
$(READY): setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, found " + sys.version.split()[0] + ": call make PYTHON=python3.12" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	touch $@

$(TESTING): $(READY)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
