# `make` alone lists the commands. Each command sets up .venv first if necessary.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run up down history restore explore forget prove-erasure store check quick-tests test soak bench model wheels publish settings mwaa prices docs pictures lint format lock clean

PYTHON := .venv/bin/python
# scripts/setup.sh makes this folder for users whose home cannot be written.
export HOME := $(shell [ -w "$$HOME" ] && echo "$$HOME" || echo "$(CURDIR)/.local/home")
unexport PYTHONPATH PYTHONHOME
# One worker more than cores, since much of the suite waits for servers.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
IN_VENV = JAVA_HOME="$$(cat .venv/java_home)" PATH="$(CURDIR)/.venv/bin:$$PATH" LC_ALL=C.UTF-8 $(PYTHON)

# What the user types reaches the commands through the environment, so that spaces, quotes and dollars stay as they are.
$(foreach name,IMAGES LAKE PARAMS STATE PATHS LABELS FILE RECEIPT KEEP_PHOTOS STORE PORT ROOT SETTINGS STACK FORMAT LAPS,$(eval export USER_$(name) := $$(value $(name))))
# An option with the value of such a variable, if it is set: $(call option,--port,PORT). TESTS, TABLES and OPTIONS are lists
# of words instead: the shell alone splits them, as $(value …) leaves them to it.
option = $(if $(USER_$(2)),$(1) "$$USER_$(2)")
# The folder in which `make` was called: the shell's, if `make -C` (which sets the flag w) has changed the folder.
export USER_FOLDER = $(if $(findstring w,$(firstword -$(MAKEFLAGS)))$(findstring print-directory,$(MAKEFLAGS)),$(PWD),$(CURDIR))
RUN_OPTIONS = --relative-to "$$USER_FOLDER" $(call option,--images,IMAGES) $(call option,--lake,LAKE) $(call option,--store,STORE)
# An option with the absolute path of a file of the user, for the commands without --relative-to.
ABSOLUTE = import os, sys; print(os.path.abspath(os.path.join(sys.argv[1], os.path.expanduser(sys.argv[2]))))
path_option = $(if $(USER_$(2)),$(1) "$$($(PYTHON) -c '$(ABSOLUTE)' "$$USER_FOLDER" "$$USER_$(2)")")

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## create .venv, and find or install Python 3.11 and Java 17; the other commands do this first [STORE=s3]
	@scripts/setup.sh $(call option,,STORE)

run: setup ## the main job, end to end: photos to features and components [IMAGES=folder] [LAKE=folder] [STORE=s3] [PARAMS='name=value …']
	@$(IN_VENV) -m local.run $(RUN_OPTIONS) $(call option,--params,PARAMS)

up: setup ## Airflow with its UI and scheduler, in the background [IMAGES=folder] [LAKE=folder] [STORE=s3] [PORT=8080]
	@$(IN_VENV) -m local.run.service up $(RUN_OPTIONS) $(call option,--port,PORT)

down: setup ## stop what `make up` started; lake, database and logs are kept
	@$(IN_VENV) -m local.run.service down

history: setup ## print the runs of a lake [LAKE=folder] [FORMAT=json]
	@$(IN_VENV) -m include.reports --relative-to "$$USER_FOLDER" $(call option,--lake,LAKE) $(call option,--format,FORMAT)

restore: setup ## publish a kept state again, as a new state: STATE=number [LAKE=folder]
	@$(IN_VENV) -m include.reports --relative-to "$$USER_FOLDER" $(call option,--lake,LAKE) --restore "$$USER_STATE"

explore: setup ## open the published features in Embedding Atlas, in the browser, until Ctrl-C [LAKE=folder]
	@$(IN_VENV) -m local.explore --relative-to "$$USER_FOLDER" $(call option,--lake,LAKE)

forget: setup ## erase photos and everything derived from them: PATHS='data/Kiwi/1.jpg …', LABELS='Kiwi …' or FILE=list [KEEP_PHOTOS=yes] [LAKE=folder or s3://bucket]
	@$(IN_VENV) -m include.erasure --relative-to "$$USER_FOLDER" $(call option,--lake,LAKE) $(call option,--paths,PATHS) \
		$(call option,--labels,LABELS) $(call option,--file,FILE) $(if $(USER_KEEP_PHOTOS),--keep-photos)

prove-erasure: setup ## read a whole lake, old versions too, and look for what a receipt says is erased: RECEIPT=lake/erasures/<id>.json
	@$(IN_VENV) -m include.erasure.proof --relative-to "$$USER_FOLDER" "$$USER_RECEIPT"

store: setup ## the local S3 store by itself, to read the lake of `make run STORE=s3`, until Ctrl-C
	@$(IN_VENV) -m local.s3

check: setup ## lint, types, and the tests that start no Spark, no Airflow and no server: a minute
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target quick-tests lint

quick-tests: setup ## the tests that start no Spark, no Airflow and no server [TESTS='paths and pytest options']
	@$(IN_VENV) -m pytest -q -m "not soak and not slow" --numprocesses 2 --dist loadfile --durations=0 --durations-min=1 $(value TESTS)

test: setup ## the whole test suite [TESTS='paths and pytest options']
	@$(IN_VENV) -m pytest -m "not soak" --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(value TESTS)

soak: setup ## the long tests and the fault matrix, with a dated report in docs/soak [TESTS=…]
	@mkdir -p .local
	@$(IN_VENV) -m pytest -m "soak or matrix" --junitxml=.local/soak.xml $(value TESTS); code=$$?; \
		$(IN_VENV) -m scripts.write_soak_report .local/soak.xml && \
		$(IN_VENV) -m scripts.write_fault_matrix .local/soak.xml && $(IN_VENV) -m scripts.write_kills .local/soak.xml && exit $$code

bench: setup ## measure tables and write them to benchmarks/results [TABLES='notebook compute latency scale rivals pca pcascale accuracy days findchanges insights classifier basis'] [IMAGES=folder] [LAPS=n]
	@$(IN_VENV) -m benchmarks $(value TABLES) $(call path_option,--images,IMAGES) $(call option,--laps,LAPS)

model: setup ## export MobileNetV2 from Keras to LiteRT into .local/models
	@$(IN_VENV) -m include.artifacts model

wheels: setup ## download the packages that cluster nodes install into .local/wheelhouse (240 MB), and check them
	@$(IN_VENV) -m include.artifacts wheels

publish: setup ## publish model, code and wheels into a lake, before its first run: ROOT=s3://bucket
	@$(IN_VENV) -m include.artifacts publish --root "$$USER_ROOT"

settings: setup ## print the DAG's settings from the stack's outputs [STACK=fruit-features] [FORMAT=env|variables]
	@$(IN_VENV) -m include.deployment settings $(call option,--stack,STACK) $(call option,--format,FORMAT)

mwaa: setup ## build the folder for Amazon MWAA, .local/mwaa [SETTINGS=file, the output of `make settings`]
	@$(IN_VENV) -m include.deployment mwaa $(call path_option,--settings,SETTINGS)

prices: setup ## write a new price table from the AWS Price List API [OPTIONS='--eur-per-usd 0.90 --eur-date 2026-11-20']
	@$(IN_VENV) -m include.cost $(value OPTIONS)

docs: setup ## regenerate the generated documents
	@$(IN_VENV) scripts/write_dag_docs.py
	@$(IN_VENV) -m scripts.write_cost_tables

pictures: setup ## make the pictures of the documents anew from the published run, with Chromium [LAKE=folder]
	@$(IN_VENV) -m scripts.write_pictures --relative-to "$$USER_FOLDER" $(call option,--lake,LAKE)

lint: setup ## ruff, import rules, types, the AWS template, generated documents, shell scripts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/mypy
	@.venv/bin/mypy --python-version 3.12 include
	@.venv/bin/cfn-lint --regions eu-west-3 -- infra/fruit-features.yaml infra/erasure.yaml
	@$(IN_VENV) scripts/write_dag_docs.py --check
	@$(IN_VENV) -m scripts.write_cost_tables --check
	@bash -n scripts/*.sh include/cluster/*.sh docker/*.sh tests/compose/*.sh tests/python312/*.sh .ci/run

format: setup ## format the code
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

lock: setup ## compile the requirements from the *.in files
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command "make lock" requirements.in --output-file requirements.txt
	@for name in airflow cluster; do .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command "make lock" --constraint requirements.txt \
		requirements-$$name.in --output-file requirements-$$name.txt; done
	@for name in airflow emr init store uv; do .venv/bin/uv pip compile --quiet --universal --generate-hashes \
		--python-version 3.11 --custom-compile-command "make lock" --constraint requirements.txt \
		docker/$$name.in --output-file docker/$$name.txt; done
	@for file in benchmarks/rivals/requirements/*.in tests/local/emr/clients/*.in; do .venv/bin/uv pip compile --quiet --universal --generate-hashes \
		--python-version 3.11 --custom-compile-command "make lock" $$file --output-file $${file%.in}.txt; done
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" \
		--override local/explore/overrides.txt local/explore/requirements.in --output-file local/explore/requirements.txt

clean: ## delete .local: lakes, state and caches of local runs; .venv stays
	@rm -rf .local
