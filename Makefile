# `make test` and `make demo` each do all their own set-up on a bare Debian 12 (git, make, python3, gcc).
.PHONY: setup test check unit kernel demo bench clean

setup:
	@scripts/setup

# Everything CI runs: style, types, import rules, then every test.
test: check
	scripts/run-tests

check: setup
	.venv/bin/ruff check src tests
	.venv/bin/ruff format --check src tests
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/module-length

unit: setup
	.venv/bin/python -m pytest tests/unit tests/golden tests/property

kernel: setup
	scripts/run-tests tests/kernel

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
