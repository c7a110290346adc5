# demo: the main job with its set-up · test: all tests · nightly: whole matrices · check: static rules · bench: speed claims as ratios
.PHONY: demo test nightly check bench setup setup-tests lock clean

# Many containers set it: each process of a stack, and each worker of the tests, would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

setup:
	@.ci/setup

setup-tests:
	@.ci/setup tests

demo: setup
	@.venv/bin/feedstorm run celebrity-cache-kill

# What judges latencies and times of recovery comes last and has the machine to itself.
ALONE = $(addprefix tests/end_to_end/, test_run.py test_kills.py test_noise_of_a_machine.py)

test: setup-tests
	@.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(ALONE))
	@.venv/bin/pytest $(ALONE)

# Whole matrices of which `make test` only takes samples.
nightly: setup-tests
	@.venv/bin/pytest -m nightly

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: setup
	@.venv/bin/python -m benchmarks

# Pins names, versions and hashes; no download addresses.
lock:
	@.venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --no-annotate --quiet -o requirements.lock

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
