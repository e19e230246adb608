# What people do with this repository. On a machine with Python 3.11 or newer and make, each target installs what it
# needs into .venv first, once. Another Python: `make test PYTHON=python3.13`.

PYTHON ?= python3
ORDERS ?= 20000
TESTS ?= tests
N ?= 100
# One more than the processors of a small machine: tests wait for servers now and then.
WORKERS ?= 3
LAMBDA_PYTHON ?= 3.13
LAMBDA_ARCHITECTURE ?= arm64
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
# Archives whose digests are known, and which run nothing when they are installed.
VERIFIED := --require-hashes --only-binary :all:

# What else is put into the zip, for this deployment: PROJECT and CERTIFICATES, on lines of their own.
-include infra/package.mk

# What Terraform is told of the zip; the path is taken from infra/, so that it is the same on every machine.
TERRAFORM := terraform -chdir=infra
LAMBDA_ZIP := totes-$(LAMBDA_ARCHITECTURE)-py$(LAMBDA_PYTHON).zip
ZIP := -var package=../build/lambda/$(LAMBDA_ZIP) \
    -var python_version=$(LAMBDA_PYTHON) -var architecture=$(LAMBDA_ARCHITECTURE)

.PHONY: help demo superset test test-browser test-superset test-iceberg test-spark postgresql-versions test-versions pictures coverage check lint types structure security audit infra soak mutants bench bench-peers docs package release lambda providers bootstrap ready plan deploy rollback remove pins clean

help:
	@echo 'make demo      the pipeline on a PostgreSQL of its own (ORDERS=20000)'
	@echo 'make test      all tests (TESTS=tests/processing for some)'
	@echo 'make test-browser  the pages of totes ui in a real Chromium (skips where there is none)'
	@echo 'make postgresql-versions  PostgreSQL 13 to 17 for tests, into .venv-postgresql; make test-versions runs all of these'
	@echo 'make superset  dashboards over the demo in a real Superset, in an environment of its own (CONFIG=demo/totes.toml)'
	@echo 'make test-superset  every chart in a real Superset and Chromium, over DuckDB and PostgreSQL (ONLY=duckdb)'
	@echo 'make test-iceberg  published tables, with PyIceberg and another reader (skips where they cannot be installed)'
	@echo 'make test-spark  first loads on a real Apache Spark on this machine, with executors that are killed (needs Java 17; ONLY=twice)'
	@echo 'make pictures  docs/pictures/ anew, with Chromium; of Superset too, where make test-superset has installed it'
	@echo 'make coverage  all tests, and which lines and branches they reach'
	@echo 'make check     lint, types, structure, docs up to date, security, infra'
	@echo 'make infra     Terraform: format, validity, its tests, checkov, the state machine (each skips where its tool is missing)'
	@echo 'make soak      tests that make test has a spread of, then random histories beside an oracle, until stopped (MINUTES=60)'
	@echo 'make mutants   plants faults in the code, one at a time, and says which no test notices (N=100, SEED=7, ONLY=lake,star)'
	@echo 'make bench     the benchmarks (ORDERS=5000000, ONLY=full-load,steps, REPEAT=5; make bench-peers for peers too)'
	@echo 'make docs      regenerate docs/reference/'
	@echo 'make package   wheel and source archive, into dist/'
	@echo 'make release   these and the zip, for each of them what it is made of (CycloneDX), and SHA256SUMS, into dist/'
	@echo 'make lambda    the zip of the Lambda functions (LAMBDA_PYTHON=3.13, LAMBDA_ARCHITECTURE=arm64, PROJECT=folder,'
	@echo '               CERTIFICATES=file)'
	@echo 'make deploy    all of it on AWS, after make bootstrap: docs/how-to/deploy.md (make plan only shows what would change)'
	@echo 'make rollback  the functions go back to the package before the present one'
	@echo 'make remove    what make deploy made, but the lake: docs/how-to/deploy.md'
	@echo 'make providers lock the provider of Terraform for every platform, from its registry'
	@echo 'make pins      choose the newest versions that pyproject.toml allows, into requirements/'
	@echo 'make clean     remove what was made here, .venv too'

demo: .venv/demo.stamp
	@$(BIN)/totes demo --orders $(ORDERS)

# Superset in an environment of its own, with what it keeps in build/superset, for each settings file apart: with SQLite
# below it, Superset has one dataset of a name only.
CONFIG ?= demo/totes.toml
SUPERSET = build/superset/$(subst /,_,$(CONFIG))
superset: .venv/demo.stamp .venv-superset/stamp
	@test -x .venv-superset/bin/superset || { \
	    echo 'Superset cannot be installed here. It needs Python 3.11 or 3.12: make superset PYTHON=python3.12'; exit 1; }
	@test -f $(CONFIG) || $(BIN)/totes demo --orders $(ORDERS)
	@$(BIN)/totes --config $(CONFIG) dashboards $(SUPERSET)/assets --yes
	@.venv-superset/bin/python dashboards/serve.py $(SUPERSET)/assets --home $(SUPERSET)/home

# Modules are compiled once, and not in each of the many processes, whatever the environment says.
test test-browser test-superset test-iceberg test-spark test-versions coverage soak mutants: export PYTHONDONTWRITEBYTECODE :=

test: .venv/dev.stamp
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

# The pages in a real Chromium: its driver is in an environment of its own, and needs nothing of the other.
BROWSER = PYTHONPATH="$$(echo .venv-browser/lib/python*/site-packages)" $(BIN)/python
test-browser: .venv/dev.stamp .venv-browser/stamp
	@$(BROWSER) -m pytest -m browser tests/ui

test-superset: .venv/dev.stamp .venv-browser/stamp .venv-superset/stamp
	@$(BROWSER) -m pytest -m superset $(if $(ONLY),-k '$(ONLY)') tests/dashboards

# Older versions of PostgreSQL as sources: make test has a part of these tests where their programs are installed.
postgresql-versions: .venv-postgresql/stamp

test-versions: .venv/dev.stamp .venv-postgresql/stamp
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'sweep or not sweep' tests/versions

# PyIceberg brings pyarrow, which totes itself must do without: no other test sees it.
test-iceberg: .venv/dev.stamp .venv-iceberg/stamp
	@PYTHONPATH="$$(echo .venv-iceberg/lib/python*/site-packages)" $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
	    -m "iceberg and not sweep" $(if $(ONLY),-k '$(ONLY)') tests/publishing

# PySpark is in an environment of its own, which Spark's processes find as these tests do: by its absolute path.
test-spark: .venv/dev.stamp .venv-spark/stamp
	@PYTHONPATH="$$(echo $(CURDIR)/.venv-spark/lib/python*/site-packages)" \
	    $(BIN)/python -m pytest -m spark $(if $(ONLY),-k '$(ONLY)') tests/workers

pictures: .venv/dev.stamp .venv-browser/stamp
	@$(BROWSER) -m tests.ui.pictures
	@if [ -x .venv-superset/bin/superset ]; then $(BROWSER) -m tests.dashboards.pictures; fi

coverage: .venv/dev.stamp
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered tests

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
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m sweep tests
	@$(BIN)/python -m tests.oracle.soak $(if $(MINUTES),--minutes $(MINUTES))

# The first run measures which tests reach which lines, which takes as long as all of them; what follows takes seconds a mutant.
mutants: .venv/dev.stamp .venv-mutants/stamp
	@.venv-mutants/bin/python -m tests.mutants.run --number $(N) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

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
	@if .venv-checkov/bin/python -m pip --disable-pip-version-check --quiet install $(VERIFIED) --requirement $<; then \
	    touch $@; else rm -rf .venv-checkov; fi

.venv-mutants/stamp: requirements/mutants.txt .venv/bin/python
	@echo 'Installing mutmut and LibCST into .venv-mutants …'
	@rm -rf .venv-mutants && $(PYTHON) -m venv .venv-mutants
	@.venv-mutants/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $(VERIFIED) --requirement $<
	@touch $@

# Without an index of packages there is no Playwright, and the tests that need it say so.
.venv-browser/stamp: requirements/browser.txt .venv/bin/python
	@echo 'Installing Playwright into .venv-browser …'
	@rm -rf .venv-browser && $(PYTHON) -m venv .venv-browser
	@if .venv-browser/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $(VERIFIED) --requirement $<; then \
	    touch $@; else rm -rf .venv-browser; fi

# Archives of npm whose digests are known, and which run nothing when they are installed. They are for Linux on x86-64; without
# npm, or elsewhere, there are none, and the tests that need them say so.
.venv-postgresql/stamp: requirements/postgresql/package-lock.json
	@echo 'Installing PostgreSQL 13 to 17 into .venv-postgresql: 300 MB …'
	@rm -rf .venv-postgresql && mkdir .venv-postgresql && cp requirements/postgresql/*.json .venv-postgresql/
	@if npm ci --prefix .venv-postgresql --ignore-scripts --no-audit --no-fund --silent; then touch $@; else \
	    rm -rf .venv-postgresql; echo 'They cannot be installed here: their tests are skipped.'; fi

# One of its parts has no wheel, and is built from its source. Superset runs on Python 3.11 and 3.12.
.venv-superset/stamp: requirements/superset.txt .venv/bin/python
	@echo 'Installing Superset into .venv-superset: 900 MB …'
	@rm -rf .venv-superset && $(PYTHON) -m venv .venv-superset
	@if .venv-superset/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $(VERIFIED) \
	    --no-binary wtforms-json --requirement $<; then touch $@; else rm -rf .venv-superset; fi

# PyIceberg, and DuckDB's Iceberg extension with the release of DuckDB that it is made for, which is not the pipeline's.
ICEBERG_PIP := .venv-iceberg/bin/python -m pip --disable-pip-version-check --quiet install --no-deps
.venv-iceberg/stamp: requirements/iceberg.txt requirements/iceberg-reader.txt .venv/bin/python
	@echo 'Installing PyIceberg into .venv-iceberg …'
	@rm -rf .venv-iceberg && $(PYTHON) -m venv .venv-iceberg
	@if $(ICEBERG_PIP) $(VERIFIED) --requirement requirements/iceberg.txt \
	    && $(ICEBERG_PIP) $(VERIFIED) --target .venv-iceberg/reader --requirement requirements/iceberg-reader.txt; \
	then touch $@; else rm -rf .venv-iceberg; fi

# PySpark has no wheel, and is built from its source.
.venv-spark/stamp: requirements/spark.txt .venv/bin/python
	@echo 'Installing PySpark into .venv-spark: 900 MB …'
	@rm -rf .venv-spark && $(PYTHON) -m venv .venv-spark
	@if .venv-spark/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $(VERIFIED) \
	    --no-binary pyspark --requirement $<; then touch $@; else rm -rf .venv-spark; fi

docs: .venv/dev.stamp
	@$(BIN)/python docs/generate.py

package: .venv/dev.stamp
	@rm -rf dist
	@$(BIN)/hatchling build -d dist

# What an archive is made of is read from where it is installed, or unpacked, and nothing else is: without pip, too.
RELEASE := build/release
release: package lambda
	@cp build/lambda/$(LAMBDA_ZIP) dist/
	@rm -rf $(RELEASE) && $(PYTHON) -m venv --without-pip $(RELEASE)/wheel && $(PYTHON) -m venv --without-pip $(RELEASE)/zip
	@$(subst pip ,pip --python $(RELEASE)/wheel ,$(PIP)) $(VERIFIED) --requirement requirements/runtime.txt
	@$(subst pip ,pip --python $(RELEASE)/wheel ,$(PIP)) --no-deps dist/*.whl
	@$(BIN)/python -m zipfile --extract dist/$(LAMBDA_ZIP) "$$($(RELEASE)/zip/bin/python -c \
	    'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@set -e; version=$$($(RELEASE)/wheel/bin/totes --version | tr -cd '0-9.'); \
	sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > $(RELEASE)/pyproject.toml; \
	components() { $(BIN)/cyclonedx-py environment --pyproject $(RELEASE)/pyproject.toml --output-reproducible \
	    --output-file "$$2.cdx.json" $(RELEASE)/$$1 2> $(RELEASE)/$$1.log || { cat $(RELEASE)/$$1.log; exit 1; }; }; \
	components wheel "$$(ls dist/*.whl)"; components zip dist/$(LAMBDA_ZIP)
	@cd dist && sha256sum -- * > ../$(RELEASE)/SHA256SUMS && mv ../$(RELEASE)/SHA256SUMS . && sha256sum --check --quiet SHA256SUMS
	@ls dist

bootstrap:
	@terraform -chdir=infra/bootstrap init -input=false
	@terraform -chdir=infra/bootstrap apply $(if $(REPOSITORY),-var repository=$(REPOSITORY)) \
	    $(if $(wildcard infra/terraform.tfvars),-var-file=../terraform.tfvars)
	@terraform -chdir=infra/bootstrap output -raw backend > infra/backend.hcl
	@terraform -chdir=infra/bootstrap output -raw boundary > infra/bootstrap.auto.tfvars
	@echo 'infra/backend.hcl and infra/bootstrap.auto.tfvars are written. Next: make deploy'

# The platforms that people and GitHub apply from. PROVIDERS names a mirror's folder in place of the registry.
PLATFORMS ?= linux_amd64 linux_arm64 darwin_amd64 darwin_arm64 windows_amd64
providers:
	@$(TERRAFORM) get > /dev/null
	@$(TERRAFORM) providers lock $(if $(PROVIDERS),-fs-mirror=$(PROVIDERS)) $(PLATFORMS:%=-platform=%)

# What plan, deploy and remove begin with.
ready: lambda infra/backend.hcl
	@$(TERRAFORM) init -input=false -backend-config=backend.hcl

plan: ready
	@$(TERRAFORM) plan -input=false -out=totes.tfplan $(ZIP)

deploy: ready
	@$(TERRAFORM) apply $(ZIP)

# The region and the credentials are those of the environment, as for `aws`.
rollback: .venv/dev.stamp infra/backend.hcl
	@$(TERRAFORM) output -json functions | $(BIN)/python infra/rollback.py

# Terraform asks for the package also where all that it made goes. The lake stays.
remove: ready
	@TERRAFORM='$(TERRAFORM)' infra/leave_lake
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
	@$(PIP) $(VERIFIED) --requirement requirements/demo.txt --requirement requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/demo.stamp requirements/dev.txt
	@echo 'Installing what tests and checks need into .venv …'
	@$(PIP) $(VERIFIED) --requirement requirements/dev.txt
	@touch $@

# Each of the first three files holds what the ones before it do not; uv adds the digests of all archives of a version.
pins:
	@mkdir -p build
	@set -e; fresh() { rm -rf build/pins; $(PYTHON) -m venv build/pins; : > build/pins/known.txt; \
	    build/pins/bin/python -m pip install --quiet --upgrade pip; }; \
	freeze() { \
	    { echo "# $$2: exact versions, written by \`make pins\` (see README.md in this folder)."; \
	      if [ -n "$$3" ]; then echo "-r $$3"; fi; \
	      build/pins/bin/python -m pip freeze --exclude totes | grep -vxFf build/pins/known.txt; } > requirements/$$1.txt; \
	    build/pins/bin/python -m pip freeze --exclude totes > build/pins/known.txt; }; \
	fresh; \
	build/pins/bin/python -m pip install --quiet .; freeze runtime 'What totes needs to run'; \
	build/pins/bin/python -m pip install --quiet '.[demo,ui]'; freeze demo 'What `totes demo` and `totes ui` need besides' runtime.txt; \
	build/pins/bin/python -m pip install --quiet '.[aws]' --group dev; \
	freeze dev 'What tests and checks need besides' demo.txt; \
	cp build/pins/known.txt build/chosen.txt; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --constraint build/chosen.txt --group lambda; \
	freeze lambda 'What the Lambda functions need'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet hatchling editables; freeze build 'What builds the package'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --only-binary :all: checkov; freeze checkov 'What reads infra/ for what is unsafe'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --no-deps --constraint build/chosen.txt mutmut libcst coverage; \
	freeze mutants 'What plants faults in the code'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --no-deps --constraint build/chosen.txt playwright pyee greenlet typing-extensions; \
	freeze browser 'What drives a browser'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet 'apache-superset>=6.1,<6.2' rich cachetools 'flask-caching<2.4' duckdb-engine \
	    psycopg2-binary "$$(grep ^duckdb== build/chosen.txt)"; \
	build/pins/bin/python -m pip uninstall --quiet --yes odfpy; \
	freeze superset 'What shows the dashboards'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --constraint build/chosen.txt '.[iceberg]'; \
	cp build/chosen.txt build/pins/known.txt; freeze iceberg 'What publishes to an Iceberg catalog, besides' dev.txt; \
	sed -i '/^-r /d' requirements/iceberg.txt; \
	fresh; \
	build/pins/bin/python -m pip install --quiet duckdb-extension-iceberg duckdb-extension-avro; \
	freeze iceberg-reader 'What reads Iceberg tables in tests, and knows nothing of totes'; \
	fresh; \
	build/pins/bin/python -m pip install --quiet --constraint build/chosen.txt 'pyspark[connect]>=4.1,<5' 'pandas<3'; \
	freeze spark 'What runs work on Apache Spark'
	@build/pins/bin/python -m pip install --quiet uv
	@set -e; for file in runtime demo dev lambda build checkov mutants browser superset iceberg iceberg-reader spark; do \
	    grep -E '^(#|-r )' requirements/$$file.txt > build/head.txt; grep == requirements/$$file.txt > build/versions.in; \
	    build/pins/bin/uv pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header \
	        --output-file build/versions.txt build/versions.in; \
	    cat build/head.txt build/versions.txt > requirements/$$file.txt; rm build/versions.txt; \
	done
	@rm -rf build/pins build/chosen.txt

clean:
	@rm -rf .venv .venv-peers .venv-checkov .venv-mutants .venv-browser .venv-superset .venv-iceberg .venv-spark .venv-postgresql build dist demo htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
