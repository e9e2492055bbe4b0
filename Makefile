# Everything a developer or a first-time user runs. `make` alone lists it.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DATA ?= elpv

.DEFAULT_GOAL := help
.PHONY: help demo demo-loop up test formats check format schema screenshots

help: ## List the targets
	@grep -hE '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv: $(VENV)/.ready ## Make the virtual environment alone

$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed as '$(PYTHON)'; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what Hardmine needs into $(VENV) (about four minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: .venv ## Register real photographs, train, scan, then serve (DATA=elpv or fashion-mnist)
	@$(BIN)/python manage.py demo --data $(DATA) $(if $(DEMO_EXIT),--exit)

demo-loop: .venv ## Wrong labels reviewed, new images mined, a better model, its proof; then serve
	@$(BIN)/python manage.py demo_loop $(if $(DEMO_EXIT),--exit)

up: .venv ## Run web, worker and scheduler in this terminal
	@$(BIN)/python manage.py up

# Two test processes and their workers on few cores: more threads would only queue.
test: export OMP_NUM_THREADS ?= 1
# A hundred processes are started; where images say so, each would compile all modules anew.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

# In an environment of its own on top of the other: both bring pandas, which pyarrow imports
# wherever it finds it.
formats: .venv ## Read exports back with `datasets` and Label Studio's SDK
	@test -x var/formats/bin/python || $(BIN)/python -m venv var/formats
	@echo "$(CURDIR)/$$(echo $(VENV)/lib/python3*/site-packages)" > $$(echo var/formats/lib/python3*/site-packages)/hardmine.pth
	@var/formats/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt datasets label-studio-sdk
	@var/formats/bin/python -c 'import datasets, label_studio_sdk' # or the tests would be skipped
	@var/formats/bin/python -m pytest tests/mining/exports $(PYTEST_ARGS)

check: .venv ## Formatting, lint, types, import contracts, templates, migrations, deployment checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	git ls-files '*.html' | xargs $(BIN)/djade --check
	$(BIN)/djlint --lint --quiet templates
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/mypy mining reviewapp
	$(BIN)/python manage.py makemigrations --check --dry-run
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') HARDMINE_HTTPS=on ALLOWED_HOSTS=hardmine.example $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python manage.py spectacular --validate --fail-on-warn | diff - docs/openapi.yaml

format: .venv ## Format Python and templates
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	git ls-files '*.html' | xargs $(BIN)/djade

schema: .venv ## Write docs/openapi.yaml anew
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

screenshots: .venv ## Write the pictures under docs/images anew
	HARDMINE_SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser/test_pages.py
