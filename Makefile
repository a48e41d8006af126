# `make help` explains every target. The work itself is done by image/setup, the host program atalaya-image and tests/all.
.DEFAULT_GOAL := help
.PHONY: run test image bench setup clean distclean help

BUILDER := build/cargo/release/atalaya-image
# What is given on make's command line reaches the programs by the environment, as make does by itself.

run: setup
	@cargo build --release -q -p atalaya-image
	@exec $(BUILDER) run

image: setup
	@cargo build --release -q -p atalaya-image
	@exec $(BUILDER) build

test:
	@exec tests/all

bench: setup
	@cargo run --release -q -p atalaya-bench

setup:
	@image/setup

clean:
	rm -rf build

distclean: clean
	rm -rf cache run

help:
	@echo "make run        build what has changed, boot the image in QEMU, print the address and how to log in; Ctrl-C stops it"
	@echo "make test       set up, then every test; about 25 minutes the first time"
	@echo "make image      build without booting: build/image/"
	@echo "make bench      print boot phases, memory, sizes and build times as a table"
	@echo "make setup      install the packages that are missing (image/packages.txt)"
	@echo "make clean      remove build/ (output, compiled programs)"
	@echo "make distclean  remove build/, cache/ (tools tree, packages, releases) and run/ (disk, CA, credentials)"
	@echo
	@echo "Settings, as in 'make run ONCE=1':"
	@echo "  ONCE=1                 log in, post, shut down; exit status 0 only if all of it worked"
	@echo "  FRESH=1                throw away the machine's disk and start over"
	@echo "  HTTPS_PORT=, HTTP_PORT=  ports on 127.0.0.1 (8443, 8080); fixed for a disk until FRESH=1"
	@echo "  DISK=                  another disk file than run/disk.raw"
	@echo "  ACCEL=tcg|kvm          how QEMU runs the machine; found out by itself"
	@echo "  MATTERMOST=            auto (default), official (or fail), standin"
	@echo "  MATTERMOST_TARBALL=, MATTERMOST_SHA256=   a release's file, and its sum if it is not the pinned one"
	@echo "  ATALAYA_CACHE=         another place than cache/"
