# `make demo` and `make test` each do all their own set-up on a bare Debian 12 (git, make, python3, gcc).
.PHONY: setup demo test check lint docs unit kernel interop cni differential soak bench wheel plugin clean

PYTEST = .venv/bin/python -m pytest
BUNDLE = $(if $(filter 0,$(shell id -u)),plugin)  # without root neither is it built nor its tests run

setup:
	@scripts/setup

# Both models on one network, shown on this machine in a private host namespace; leaves nothing behind.
demo: setup
	.venv/bin/dovetail demo

# Everything CI runs: style, types, import rules, the documentation, then every test.
test: check $(BUNDLE)
	scripts/run-tests

check: lint
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/module-length
	scripts/docs --check

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check

# Write the generated parts of docs/ and README.md.
docs: setup
	scripts/docs

# The tiers by themselves: the first needs no root, the others run in a private host.
unit: setup
	$(PYTEST) -m "not root" tests/unit tests/golden tests/property

kernel: setup
	scripts/run-tests tests/kernel

interop: setup $(BUNDLE)
	scripts/run-tests tests/interop

# All tests of CNI's plugin types (`make test` runs one case of each).
cni: setup
	scripts/run-tests tests/kernel/cni tests/kernel/interfaces tests/kernel/chained

# All cases of the comparison with Go's CNI plugins (`make test` runs a sample), and whether each listed difference is there.
differential: setup
	DIFFERENTIAL=all scripts/run-tests tests/interop/reference

# The long forms of what `make test` does shortly: 200 docker runs in a row and 50 at once, 100 containers and 100 pods
# on a directory of plugins 16 at a time, then random operations with kill -9 among them: MINUTES=20 of them, from SEED
# (a number; it is printed).
soak: setup
	SOAK_MINUTES=$(or $(MINUTES),20) SOAK_SEED=$(SEED) scripts/run-tests tests/interop/soak tests/interop/runtimes tests/kernel/cni/test_crash.py
	FUZZ=50000 scripts/run-tests tests/property/test_plugin_socket.py

# Times against Debian's Go plugins and the kernel's own floor, of each CNI plugin beside Go's, and of Docker on dovetail and
# on its own bridge driver; BENCH="--json FILE", PLUGINS_BENCH and DOCKER_BENCH keep the numbers.
bench: setup
	.venv/bin/python bench/run.py $(BENCH)
	.venv/bin/python bench/plugins.py $(PLUGINS_BENCH)
	.venv/bin/python bench/docker.py $(DOCKER_BENCH)

wheel: setup
	.venv/bin/hatchling build -t wheel

# The managed Docker plugin, build/docker-plugin: config.json and a root file system with Debian's python3, nftables and
# iptables (unpacked from packages, not installed) and our wheels; for `docker plugin create NAME build/docker-plugin`.
plugin: setup
	@scripts/build-plugin

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
