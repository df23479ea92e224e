# `make demo` and `make test` each do all their own set-up on a bare Debian 12 (git, make, python3, gcc).
.PHONY: setup demo test check lint unit kernel interop wheel clean

PYTEST = .venv/bin/python -m pytest

setup:
	@scripts/setup

# Both models on one network, shown on this machine in a private host namespace; leaves nothing behind.
demo: setup
	.venv/bin/dovetail demo

# Everything CI runs: style, types, import rules, then every test.
test: check
	scripts/run-tests

check: lint
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/module-length

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check

# The tiers by themselves: the first needs no root, the others run in a private host.
unit: setup
	$(PYTEST) tests/unit tests/golden tests/property

kernel: setup
	scripts/run-tests tests/kernel

interop: setup
	scripts/run-tests tests/interop

wheel: setup
	.venv/bin/hatchling build -t wheel

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
