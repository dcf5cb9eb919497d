.PHONY: test test-slow lint format types demo smoke bench ci

test:        ## what the README's test command runs
	python -m pytest

test-slow:   ## the long ones as well
	python -m pytest -m "slow or not slow"

lint:
	ruff check .
	ruff format --check .
	lint-imports

format:
	ruff check --fix .
	ruff format .

types:
	mypy

demo:
	python run_pipeline.py

smoke:
	python run_pipeline.py preset=smoke

bench:
	python benchmarks/environments.py

ci:
	.ci/run
