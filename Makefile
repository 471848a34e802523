# What there is to do here. Each target is one script under scripts/, which can be run by itself.
.DEFAULT_GOAL := help
.PHONY: help build demo image modelcar test fresh fuzz lint bench bench-files microbench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the crossdock program: target/release/crossdock
	cargo build --release --locked --bin crossdock

demo: ## Build a real model image, push it to a local registry, check every byte of it
	@scripts/demo

image: ## Build the builder image with crossdock itself: target/image/crossdock.tar (see scripts/image)
	@scripts/image

modelcar: ## Let olot, rh-model-signing and KServe's storage initializer, from PyPI, read an image (see scripts/modelcar)
	@scripts/modelcar

test: ## Run all tests (installs the registry and the tools they need)
	@scripts/test

fresh: ## Run demo and test on a Debian 12 that has nothing else, below target/fresh (see scripts/fresh)
	@scripts/fresh

fuzz: ## Run the fuzz targets for a while: SECONDS_EACH=60 (see scripts/fuzz)
	@scripts/fuzz

lint: ## Check formatting, clippy, documentation, licences
	@scripts/lint

bench: ## Compare with buildah and with plain uploads: SIZE_GB=4 RUNS=3 (see scripts/bench)
	@scripts/bench

bench-files: ## Compare with find, tar and zcat: FILES=100000 BASE_MB=1000 RUNS=3 (see scripts/bench-files)
	@scripts/bench-files

microbench: ## Run the criterion benchmarks of the libraries
	cargo bench --workspace --locked

clean: ## Remove what was built and downloaded
	cargo clean
	rm -rf demo-data
