.PHONY: test test-slow faults lint format types demo smoke bench bench-generators bench-risk bench-agents bench-histories bench-assumptions ci

test:        ## what the README's test command runs
	python -m pytest

test-slow:   ## the long ones as well
	python -m pytest -m "slow or not slow"

faults:      ## what may befall a run, in full, with a tally: killed, corrupted, forged, out of disk, under load; about an hour
	PYTHONPATH=tests python -m pytest -n 0 -p helpers_faults -m "slow or not slow" tests/test_faults_*.py tests/test_store.py

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

bench:       ## environment steps a second, and that the other benchmarks run
	python benchmarks/environments.py
	python benchmarks/generators.py --quick --seeds 1
	python benchmarks/risk.py --quick --seeds 1

bench-generators:  ## the generators beside plain baselines and real people: about three quarters of an hour on one thread
	python benchmarks/generators.py

bench-risk:  ## the risk model beside baselines and the ceiling: about ten minutes on one thread
	python benchmarks/risk.py

bench-agents:  ## stable-baselines3's own agents beside the dual head, in the demo's Twin: about ten minutes on one thread
	python benchmarks/agents.py

bench-histories:  ## how an agent may read the weeks so far, in the demo's Twin: about two minutes on one thread
	python benchmarks/histories.py

bench-assumptions:  ## what a policy gains where the profile tells less of who responds to what: about five minutes on one thread
	python benchmarks/assumptions.py

ci:
	.ci/run
