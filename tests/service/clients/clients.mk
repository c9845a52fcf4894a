VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CLIENTS := .clients/langchain/.installed .clients/litellm/.installed .clients/node/node_modules/.package-lock.json .clients/guidellm/.torch
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

clients: install $(CLIENTS) ## make the environments of the client tests (a second call does nothing)

# One for each, because they want other versions of the same packages than vLLM does, and than each other.
.clients/%/.installed: requirements/clients/%.lock
	@echo "installing requirements/clients/$*.lock"
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Node comes from PyPI too, so that the machine need not have it.
.clients/node/node_modules/.package-lock.json: .clients/node/.installed requirements/clients/package-lock.json
	cp requirements/clients/package.json requirements/clients/package-lock.json .clients/node
	PATH="$(CURDIR)/.clients/node/bin:$$PATH" npm ci --prefix .clients/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# guidellm loads its prompts with torch, of which .venv has one already.
.clients/guidellm/.torch: .clients/guidellm/.installed
	$(BIN)/python $(SITE_PACKAGES) > "$$($(@D)/bin/python $(SITE_PACKAGES))/torch.pth"
	@touch $@

LOCK_CLIENT = uv pip compile --python-version 3.11 --generate-hashes --no-annotate --no-emit-package torch --custom-compile-command "make lock" --quiet
lock-clients:
	for client in langchain litellm node; do $(LOCK_CLIENT) --universal requirements/clients/$$client.in --output-file requirements/clients/$$client.lock; done
	$(LOCK_CLIENT) requirements/clients/guidellm.in --output-file requirements/clients/guidellm.lock
	npm install --prefix requirements/clients --package-lock-only --ignore-scripts
install:
