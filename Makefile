# Everything works on a machine with only Python 3.11 to 3.13 and make. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := 2.13.0
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
RUN := $(BIN)/dreamserve
CLIENTS := langchain litellm node guidellm
CLIENT_STAMPS := $(CLIENTS:%=.clients/%/.ready)
K8S := .k8s/.installed
COMPILE := uv pip compile --python-version 3.11 --generate-hashes --no-annotate --no-emit-package torch \
	--custom-compile-command "make lock" --quiet
LOCK := $(COMPILE) pyproject.toml
# GPUs have other distributions of torch and vLLM, and so neither the overrides of pyproject.toml nor UV_FIND_LINKS.
LOCK_GPU := env --unset UV_FIND_LINKS uv pip compile pyproject.toml --no-config --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help install clients demo serve test lint types imports audit k8s-check check ci train train-smoke soak fuzz report lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv from the lock file (a second call does nothing)

# torch comes first and by itself: its CPU build is not on PyPI, and an extra index in a requirements file would be
# asked for every package. `--no-deps` because the lock names everything and leaves out what vLLM's CPU build asks for
# and does not need (torchvision, torchaudio, torchcodec, triton).
$(STAMP): requirements/cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "DreamServe needs Python 3.11 to 3.13; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch, vLLM's CPU build and the rest of requirements/cpu.lock: about 1 GB of downloads"
	@$(PIP) torch==$(TORCH)+cpu 2>/dev/null \
		|| { echo "not in this index: taking torch from PyTorch's own"; \
		     $(PIP) --index-url https://download.pytorch.org/whl/cpu torch==$(TORCH); }
	$(PIP) --require-hashes -r requirements/cpu.lock
	$(PIP) --no-build-isolation --editable .
	@touch $(STAMP)

clients: install $(CLIENT_STAMPS) ## make the environments of the tests with real clients (a second call does nothing)

# One for each, because they want other versions of the same packages than vLLM does, and than each other.
.clients/%/.installed: requirements/clients/%.lock
	@echo "installing requirements/clients/$*.lock"
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.clients/%/.ready: .clients/%/.installed
	@touch $@
.PRECIOUS: .clients/%/.installed

# Node comes from PyPI, so that the machine need not have it; npm trusts the authorities that the machine trusts.
.clients/node/.ready: .clients/node/.installed requirements/clients/package-lock.json
	cp requirements/clients/package.json requirements/clients/package-lock.json .clients/node
	PATH="$(CURDIR)/.clients/node/bin:$$PATH" NODE_OPTIONS=--use-system-ca npm ci --prefix .clients/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# guidellm reads its prompts with torch, of which .venv has one already.
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
.clients/guidellm/.ready: .clients/guidellm/.installed $(STAMP)
	$(BIN)/python $(SITE_PACKAGES) > "$$($(@D)/bin/python $(SITE_PACKAGES))/torch.pth"
	@touch $@

# What checks k8s/: kubectl, schemas, linters. An environment of its own, for checkov wants other versions than vLLM does.
$(K8S): requirements/k8s/tools.lock requirements/k8s/package-lock.json
	@echo "installing requirements/k8s: what checks the manifests"
	$(PYTHON) -m venv --clear .k8s
	.k8s/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/k8s/tools.lock
	cp requirements/k8s/package.json requirements/k8s/package-lock.json .k8s
	PATH="$(CURDIR)/.k8s/bin:$$PATH" NODE_OPTIONS=--use-system-ca npm ci --prefix .k8s --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

demo: install ## start the service, ask for a document with pictures, save it to out/, stop the service
	$(RUN) demo

serve: install ## keep the service running on port 8000 of this machine, open to whoever reaches that
	$(RUN) serve --no-auth

test: install clients $(K8S) ## run all tests, with real vLLM on the tiny model
	$(BIN)/pytest --cov --cov-report=term

lint: install ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy --strict on server/, models/ and load_tests/
	$(BIN)/mypy

imports: install ## the import direction of the house
	$(BIN)/lint-imports

audit: install ## bandit on our code, pip-audit on the lock files
	.ci/audit

k8s-check: $(K8S) ## the manifests in k8s/: rendered, validated against schemas, linted for security, offline
	.k8s/bin/python -m k8s.check

check: lint types imports audit k8s-check ## all checks that run no code

ci: check test train-smoke demo ## what .ci/run calls

train: install ## train the embedded default model from nothing (hours on two CPU cores)
	$(RUN) train

train-smoke: install ## all stages of training for a few steps: the loss falls
	rm -rf build/smoke && $(RUN) train --smoke --threads 1 --work build/smoke --out build/smoke/checkpoint

soak: install ## half an hour of mixed traffic on the real service: nothing may be left of it
	$(BIN)/python -m load_tests.soak --minutes 30

fuzz: install ## 10,000 broken requests to every operation
	$(BIN)/python -m load_tests.fuzz --requests 10000

report: install ## run all benchmarks and write load_tests/RESULTS.md (an hour)
	$(BIN)/python -m load_tests.report

lock: ## renew what is locked in requirements/ (needs uv, npm and, where torch's CPU build is in a folder, UV_FIND_LINKS)
	$(LOCK) --extra cpu --extra train --extra load --extra dev --output-file requirements/cpu.lock
	$(LOCK) --extra cpu --constraint requirements/cpu.lock --output-file requirements/cpu-server.lock
	$(LOCK) --extra cpu-worker --constraint requirements/cpu.lock --output-file requirements/cpu-worker.lock
	$(LOCK_GPU) --extra gpu --constraint requirements/cpu-worker.lock --output-file requirements/gpu.lock
	$(LOCK_GPU) --constraint requirements/gpu.lock --output-file requirements/gpu-worker.lock
	$(LOCK_GPU) --constraint requirements/gpu.lock --override requirements/gpu-image.txt --output-file requirements/gpu-server.lock
	for client in langchain litellm node; do \
		$(COMPILE) --universal requirements/clients/$$client.in --output-file requirements/clients/$$client.lock; done
	$(COMPILE) requirements/clients/guidellm.in --output-file requirements/clients/guidellm.lock
	npm install --prefix requirements/clients --package-lock-only --ignore-scripts
	$(COMPILE) --universal requirements/k8s/tools.in --output-file requirements/k8s/tools.lock
	npm install --prefix requirements/k8s --package-lock-only --ignore-scripts

clean: ## remove what the targets made
	rm -rf $(VENV) .clients .k8s build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage *.egg-info
