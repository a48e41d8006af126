# The project's entry points. Settings are given as NAME=VALUE behind the target: `make run MATTERMOST=standin`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: run test image bundle bench soak demo-update setup clean distclean help

ATALAYA_CACHE ?= cache
CARGO_TARGET := build/cargo/release

# Given by the caller; an empty one counts as not given.
SETTINGS := ATALAYA_CACHE ATALAYA_RUN MATTERMOST MATTERMOST_TARBALL MATTERMOST_SHA256 KEYS HTTPS_PORT HTTP_PORT DISK MEMORY ACCEL SOURCE_DATE_EPOCH
$(foreach name,$(SETTINGS),$(if $(strip $($(name))),$(eval export $(name)),$(eval unexport $(name))))

BUILD_OPTIONS := $(if $(MIRROR),--mirror $(MIRROR)) $(if $(SECURITY_MIRROR),--security-mirror $(SECURITY_MIRROR)) $(if $(filter 1,$(REFRESH)),--refresh)
RUN_OPTIONS := $(if $(filter 1,$(FRESH)),--fresh) $(if $(filter 1,$(ONCE)),--once)

# --workspace: the features of shared crates are those of the whole, so nothing is compiled twice.
ATALAYA_IMAGE := cargo build --release --workspace --bin atalaya-image && exec $(CARGO_TARGET)/atalaya-image

run: setup ## build what has changed, boot it, print address and log-in; Ctrl-C shuts it down in order
	@$(ATALAYA_IMAGE) run $(BUILD_OPTIONS) $(RUN_OPTIONS)

test: ## set up, then every check and test: formatting, lints, unit tests, the contract, machines
	@exec tests/all

image: setup ## build the image without booting it
	@$(ATALAYA_IMAGE) build $(BUILD_OPTIONS)

bundle: image ## build the image and its update bundle, signed with this machine's development key
	@exec $(CARGO_TARGET)/atalaya-image bundle

bench: ## measure against runit, s6, svlogd, nginx, HAProxy and systemd, and print tables (BENCH="restart log" for some of it)
	@image/setup bench
	@cargo build --release --workspace --bins
	@ATALAYA_BUILD_OPTIONS="$(BUILD_OPTIONS)" exec $(CARGO_TARGET)/atalaya-bench $(BENCH)

soak: setup ## the TLS edge for an hour (SOAK_SECONDS=3600) under load; an update with 1,000 power cuts, 100 of them booted; one to the next PostgreSQL
	@cargo build --release --workspace --bins
	@SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) cargo test --release -p atalaya-load --test soak -- --nocapture
	@tests/update-images
	@ATALAYA_CUTS=1000 ATALAYA_CUT_BOOTS=100 cargo test --release --workspace --test update_machine -- forward power_cut
	@tests/update-images --next-postgresql
	@exec cargo test --release --workspace --test major

demo-update: setup ## on one screen: a post, an update that goes well, and a broken one that comes back by itself
	@exec tests/demo-update

setup: ## install the packages that are missing (image/packages.txt); does nothing when all is there
	@image/setup

clean: ## remove build/: images and everything compiled
	rm -rf build

distclean: clean ## remove cache/ and run/ too: tools, packages, releases, and the machine with its data
	rm -rf $(ATALAYA_CACHE) run

help: ## explain every target
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo
	@echo "Settings, as in \`make run FRESH=1\`:"
	@echo "  MATTERMOST=auto|official|standin   which server goes in; auto takes the stand-in if the official release cannot be had"
	@echo "  MATTERMOST_TARBALL=FILE            a release to use without any network; MATTERMOST_SHA256= beside it if it is not the pinned one"
	@echo "  KEYS=development|release           whose updates the image takes: docs/keys.md"
	@echo "  HTTPS_PORT=8443 HTTP_PORT=8080     ports of 127.0.0.1 for make run, fixed until FRESH=1"
	@echo "  FRESH=1                            make run starts over with an empty disk"
	@echo "  ONCE=1                             make run logs in, posts, shuts down and tells by its exit status"
	@echo "  DISK=16 MEMORY=2048                size of the machine's disk (GiB) and memory (MiB)"
	@echo "  ACCEL=tcg|kvm                      how QEMU executes the machine; found out otherwise"
	@echo "  ATALAYA_CACHE=cache                where tools, packages and releases are kept"
	@echo "  ATALAYA_RUN=run                    where the machine of make run lives"
	@echo "  BENCH=\"NAME ...\"                   what make bench measures: restart graph log adoption memory edge generation slot boot phases build;"
	@echo "                                     also its options, as BENCH=--help tells them"
	@echo "  SOAK_SECONDS=3600                  how long make soak goes on"
	@echo "  MIRROR=URL SECURITY_MIRROR=URL     Debian's mirrors; taken from this machine's apt entries otherwise"
	@echo "  REFRESH=1                          fetch tools and Debian's packages anew, to get updates"
