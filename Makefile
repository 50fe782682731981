# Everything a fresh machine needs is Python 3.11–3.13, git and make; the rest is fetched into .venv.
.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$p && break; done)
DEMO_ARGS ?=
OLDEST_AIRFLOW := 3.3.0
COMPILE := $(VENV)/bin/uv pip compile -q pyproject.toml --extra demo --extra kafka --extra kubernetes --group dev \
	--universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help demo test images test-cluster test-long test-range lint format lock benchmarks benchmarks-kafka benchmarks-cluster stack \
	stack-down push-specs push-data connect-image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## raw data to a served model, on this machine; Ctrl-C stops all of it
	@$(VENV)/bin/mlplatform demo $(DEMO_ARGS)

test: $(VENV)/.installed ## all tests: first those that need nothing, then those whose services are present
	$(VENV)/bin/python -m pytest tests/unit
	$(VENV)/bin/python -m pytest tests/services tests/airflow -m "not long"

images: $(VENV)/.installed ## the images that the tests on a cluster run
	docker/build airflow model-server seldon-server streaming trainer

test-cluster: images ## tests on the Kubernetes cluster of KUBECONFIG; what else they need: CONTRIBUTING.md
	MLPLATFORM_IMAGES_BUILT=1 $(VENV)/bin/python -m pytest tests/cluster -m "not long"

test-long: $(VENV)/.installed ## what takes minutes: kills at every step, package environments, all images, every pod failure
	docker/build
	MLPLATFORM_IMAGES_BUILT=1 $(VENV)/bin/python -m pytest tests/services tests/cluster -m long

test-range: $(VENV)/.installed ## unit tests at both ends of the supported range of Airflow and Python
	tests/range.sh

lint: $(VENV)/.installed ## ruff, mypy --strict, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed ## format the code
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

benchmarks: $(VENV)/.installed ## the figures in benchmarks/, each against its alternative
	$(VENV)/bin/python benchmarks/parse.py
	$(VENV)/bin/python benchmarks/etl.py

benchmarks-kafka: $(VENV)/.installed ## the figures that need Java and Maven: Kafka and Kafka Connect; 15 minutes
	$(VENV)/bin/python benchmarks/kafka_extract.py
	$(VENV)/bin/python benchmarks/connect.py

benchmarks-cluster: $(VENV)/.installed ## the figures that need the Kubernetes cluster of KUBECONFIG
	docker/build airflow trainer
	$(VENV)/bin/python benchmarks/worker_start.py
	MLPLATFORM_IMAGES_BUILT=1 $(VENV)/bin/python -m pytest -s benchmarks/training_pods.py benchmarks/rollout.py

lock: $(VENV)/.installed ## resolve the lock files anew from pyproject.toml
	$(COMPILE) -o requirements.lock
	echo "apache-airflow==$(OLDEST_AIRFLOW)" | $(COMPILE) --resolution lowest-direct --constraint - -o requirements-oldest.lock
	docker/lock

PROFILE ?= small
STACK := helmfile --file helm-values/helmfile.yaml --environment $(PROFILE)

stack: ## the whole stack on the cluster of KUBECONFIG: PROFILE=small or production; docs/install.md
	@python3 helm-values/prerequisites.py $(PROFILE)
	$(STACK) sync

stack-down: ## remove the stack; data stays, unless DATA=delete (docs/operations.md)
ifeq ($(DATA),delete)
	-kubectl delete seldondeployments.machinelearning.seldon.io --namespace models --all
	-kubectl delete kafkaconnectors,kafkatopics,kafkausers,kafkaconnects,kafkas,kafkanodepools --namespace kafka --all
	-kubectl delete databases.postgresql.cnpg.io,clusters.postgresql.cnpg.io --namespace databases --all
endif
	$(STACK) destroy
ifeq ($(DATA),delete)
	kubectl delete namespace --ignore-not-found airflow mlflow models kafka databases minio
endif

SPECS ?= dag_specs
push-specs: ## copy a folder of specs (SPECS=dag_specs) to the bucket that the small profile reads them from
	@python3 helm-values/push_files.py $(SPECS)

DATA ?= dag_specs/wine/raw
TO ?= pond/raw/wine
push-data: ## copy a folder of files (DATA=dag_specs/wine/raw) into a bucket of the stack (TO=pond/raw/wine)
	@python3 helm-values/push_files.py $(DATA) $(TO)

connect-image: ## build Kafka Connect's image with the connectors of the examples
	docker build --tag $(IMAGE_REGISTRY)$(if $(IMAGE_REGISTRY),/)mlplatform-connect:$(or $(IMAGE_TAG),dev) helm-values/connect-image

clean: ## remove the environment and what the demo made
	rm -rf $(VENV) .venv-range .demo

# --compile-bytecode: a process of Airflow or MLflow starts in half the time. --no-deps: the lock file holds every version and hash; the package itself is installed in place.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one (Debian: apt install python3 python3-venv;" \
		"macOS: brew install python@3.12) or say which: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) (a few minutes the first time)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python has no venv module. Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode --require-hashes -r requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@
