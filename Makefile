# What people do with this repository. On a machine with Python 3.11 or newer and make, each target installs what it
# needs into .venv first, once. Another Python: `make test PYTHON=python3.13`.

PYTHON ?= python3
ORDERS ?= 20000
TESTS ?= tests
LAMBDA_PYTHON ?= 3.13
LAMBDA_ARCHITECTURE ?= arm64
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

# What Terraform is told of the zip; the path is taken from infra/, so that it is the same on every machine.
TERRAFORM := terraform -chdir=infra
ZIP := -var package=../build/lambda/totes-$(LAMBDA_ARCHITECTURE)-py$(LAMBDA_PYTHON).zip \
    -var python_version=$(LAMBDA_PYTHON) -var architecture=$(LAMBDA_ARCHITECTURE)

.PHONY: help demo test coverage check lint types structure security audit infra soak bench bench-peers docs package lambda bootstrap ready plan deploy remove pins clean

help:
	@echo 'make demo      the pipeline on a PostgreSQL of its own (ORDERS=20000)'
	@echo 'make test      all tests (TESTS=tests/processing for some)'
	@echo 'make coverage  all tests, and which lines and branches they reach'
	@echo 'make check     lint, types, structure, docs up to date, security, infra'
	@echo 'make infra     Terraform: format, validity, its tests, checkov, the state machine (each skips where its tool is missing)'
	@echo 'make soak      tests that make test has a spread of, then random histories beside an oracle, until stopped (MINUTES=60)'
	@echo 'make bench     the benchmarks (ORDERS=5000000, ONLY=full-load,steps, REPEAT=5; make bench-peers for peers too)'
	@echo 'make docs      write docs/reference/ anew'
	@echo 'make package   wheel and source archive, into dist/'
	@echo 'make lambda    the zip of the Lambda functions (LAMBDA_PYTHON=3.13, LAMBDA_ARCHITECTURE=arm64, PROJECT=folder,'
	@echo '               CERTIFICATES=file)'
	@echo 'make deploy    all of it on AWS, after make bootstrap: docs/how-to/deploy.md (make plan only shows what would change)'
	@echo 'make remove    what make deploy made, after its lake was emptied by hand: docs/how-to/deploy.md'
	@echo 'make pins      choose the newest versions that pyproject.toml allows, into requirements/'
	@echo 'make clean     remove what was made here, .venv too'

demo: .venv/demo.stamp
	@$(BIN)/totes demo --orders $(ORDERS)

test: .venv/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

coverage: .venv/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term-missing:skip-covered tests

check: lint types structure security audit infra

lint: .venv/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/dev.stamp
	@$(BIN)/mypy

structure: .venv/dev.stamp
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py tests/test_docs.py

security: .venv/dev.stamp
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src

# pip-audit writes its report only when it could ask: without a network there is no answer, good or bad.
audit: .venv/dev.stamp
	@mkdir -p build && rm -f build/audit.json
	@if $(BIN)/pip-audit --progress-spinner off --disable-pip --no-deps --timeout 10 \
	    --requirement requirements/runtime.txt --requirement requirements/lambda.txt \
	    --format json --output build/audit.json 2> build/audit.log; then \
	    echo 'audit: no known vulnerability in requirements/runtime.txt and lambda.txt'; \
	elif [ -s build/audit.json ]; then \
	    cat build/audit.log build/audit.json; exit 1; \
	else \
	    echo 'audit: SKIPPED, the database of vulnerabilities cannot be reached (build/audit.log)'; \
	fi

infra: .venv/dev.stamp .venv-checkov/stamp
	@infra/check

soak: .venv/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m sweep tests
	@$(BIN)/python -m tests.oracle.soak $(if $(MINUTES),--minutes $(MINUTES))

bench: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.run $(if $(filter file,$(origin ORDERS)),,--orders $(ORDERS)) \
	    $(if $(ONLY),--only $(ONLY)) $(if $(REPEAT),--repeat $(REPEAT))

bench-peers: .venv-peers/stamp

.venv-peers/stamp: benchmarks/peers.txt
	@echo 'Installing dlt, ConnectorX and Sling into .venv-peers …'
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install --requirement benchmarks/peers.txt || { \
	    echo 'They cannot be installed here; make bench leaves them out.'; exit 1; }
	@touch $@

# Without an index of packages there is no checkov, and infra/check says that it is skipped.
.venv-checkov/stamp: requirements/checkov.txt .venv/bin/python
	@echo 'Installing checkov into .venv-checkov …'
	@rm -rf .venv-checkov && $(PYTHON) -m venv .venv-checkov
	@if .venv-checkov/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<; then \
	    touch $@; else rm -rf .venv-checkov; fi

docs: .venv/dev.stamp
	@$(BIN)/python docs/generate.py

package: .venv/dev.stamp
	@rm -rf dist
	@$(BIN)/hatchling build -d dist

bootstrap:
	@terraform -chdir=infra/bootstrap init -input=false
	@terraform -chdir=infra/bootstrap apply $(if $(REPOSITORY),-var repository=$(REPOSITORY)) \
	    $(if $(wildcard infra/terraform.tfvars),-var-file=../terraform.tfvars)
	@terraform -chdir=infra/bootstrap output -raw backend > infra/backend.hcl
	@echo 'infra/backend.hcl is written. Next: make deploy'

# What plan, deploy and remove begin with.
ready: lambda infra/backend.hcl
	@$(TERRAFORM) init -input=false -backend-config=backend.hcl

plan: ready
	@$(TERRAFORM) plan -input=false -out=totes.tfplan $(ZIP)

deploy: ready
	@$(TERRAFORM) apply $(ZIP)

# Terraform asks for the package also where all that it made goes.
remove: ready
	@$(TERRAFORM) destroy $(ZIP)

infra/backend.hcl:
	@echo 'There is no infra/backend.hcl, which says where the state of Terraform is. Run make bootstrap,'
	@echo 'or write it: docs/how-to/deploy.md'; exit 1

lambda: .venv/demo.stamp
	@$(BIN)/python infra/package.py --python $(LAMBDA_PYTHON) --architecture $(LAMBDA_ARCHITECTURE) \
	    $(if $(PROJECT),--project $(PROJECT)) $(if $(CERTIFICATES),--certificates $(CERTIFICATES))

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "totes needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	    echo 'Name another: make PYTHON=python3.13 …'; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/python pyproject.toml requirements/runtime.txt requirements/demo.txt requirements/build.txt
	@echo 'Installing into .venv …'
	@$(PIP) --requirement requirements/demo.txt --requirement requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/demo.stamp requirements/dev.txt
	@echo 'Installing what tests and checks need into .venv …'
	@$(PIP) --requirement requirements/dev.txt
	@touch $@

# Each file holds what the ones before it do not.
pins:
	@rm -rf build/pins && mkdir -p build && $(PYTHON) -m venv build/pins && : > build/pins/known.txt
	@build/pins/bin/python -m pip install --quiet --upgrade pip
	@set -e; freeze() { \
	    { echo "# $$2: exact versions, written by \`make pins\` (see README.md in this folder)."; \
	      if [ -n "$$3" ]; then echo "-r $$3"; fi; \
	      build/pins/bin/python -m pip freeze --exclude totes | grep -vxFf build/pins/known.txt; } > requirements/$$1.txt; \
	    build/pins/bin/python -m pip freeze --exclude totes > build/pins/known.txt; }; \
	build/pins/bin/python -m pip install --quiet .; freeze runtime 'What totes needs to run'; \
	build/pins/bin/python -m pip install --quiet '.[demo]'; freeze demo 'What `totes demo` needs besides' runtime.txt; \
	build/pins/bin/python -m pip install --quiet '.[aws]' --group dev; \
	freeze dev 'What tests and checks need besides' demo.txt; \
	cp build/pins/known.txt build/chosen.txt; \
	rm -rf build/pins; $(PYTHON) -m venv build/pins; : > build/pins/known.txt; \
	build/pins/bin/python -m pip install --quiet --upgrade pip; \
	build/pins/bin/python -m pip install --quiet --constraint build/chosen.txt --group lambda; \
	freeze lambda 'What the Lambda functions need'; \
	rm -rf build/pins; $(PYTHON) -m venv build/pins; : > build/pins/known.txt; \
	build/pins/bin/python -m pip install --quiet hatchling editables; freeze build 'What builds the package'
	@rm -rf build/pins build/chosen.txt

clean:
	@rm -rf .venv .venv-peers .venv-checkov build dist demo htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
