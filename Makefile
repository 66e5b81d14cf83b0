# Everything a fresh Debian 12 machine needs is set up from here: `make demo`, `make test`.

VENV := .venv
PYTHON := $(VENV)/bin/python
IMGBUILD := $(VENV)/bin/imgbuild
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

# libguestfs builds its appliance from a kernel of this machine; a container has none.
HAS_KERNEL := $(wildcard /boot/vmlinuz-* /lib/modules/*/vmlinuz)
HOST_PACKAGES := python3 python3-venv python3-guestfs libguestfs-tools qemu-system-x86 qemu-utils mmdebstrap \
	fdisk e2fsprogs openssl uidmap util-linux iproute2 dnsmasq-base nmap tcpdump openssh-client rsync \
	$(if $(HAS_KERNEL),,linux-image-cloud-amd64)
TEST_PACKAGES := chromium gcc git openvpn pigz shellcheck xen-utils-4.17
MISSING = $(shell for name in $(1); do dpkg-query -W -f '$${Status}' $$name 2>/dev/null | \
	grep -q 'ok installed' || echo $$name; done)

.PHONY: setup setup-tests demo test test-xen rehearse check bench clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo   set this machine up, build the example cluster's images, register the worker on a local cloud"
	@echo "make test   set this machine up and run all tests (about half an hour without KVM)"
	@echo "make test-xen  boot Xen, dom0 and the images under it, all emulated (about ten minutes)"
	@echo "make check  format, lint, types and the tests that need nothing but Python (seconds)"
	@echo "make rehearse  boot the example cluster's images together and prove that it works (a quarter of an hour without KVM)"
	@echo "make bench  times against virt-customize, boto3, gzip and pigz, each in one run"
	@echo "make setup  only set this machine up;  make clean  remove what was built"

setup: $(VENV)/.installed
	@missing="$(call MISSING,$(HOST_PACKAGES))"; [ -z "$$missing" ] || { \
		$(ROOT) apt-get update -q && \
		$(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; }

setup-tests: setup
	@missing="$(call MISSING,$(TEST_PACKAGES))"; [ -z "$$missing" ] || { \
		$(ROOT) apt-get update -q && \
		$(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; }

# The binding of libguestfs is Debian's, for /usr/bin/python3 only: so the environment is made of that Python and
# sees Debian's packages.
$(VENV)/.installed: pyproject.toml
	@missing="$(call MISSING,python3-venv)"; [ -z "$$missing" ] || { \
		$(ROOT) apt-get update -q && \
		$(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-venv; }
	/usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev,cloud,opennebula]'
	touch $@

demo: setup
	$(IMGBUILD) doctor
	$(IMGBUILD) validate
	$(IMGBUILD) build
	$(IMGBUILD) list
	$(IMGBUILD) xen
	$(IMGBUILD) diff node worker || [ $$? -eq 1 ]
	demo/ami.sh $(IMGBUILD)

rehearse: setup
	$(IMGBUILD) build
	@trap '$(IMGBUILD) rehearse --down' EXIT; trap 'exit 130' INT TERM; set -x; \
		$(IMGBUILD) rehearse --keep && { $(IMGBUILD) cluster status --rehearsal || [ $$? -eq 1 ]; }

check: $(VENV)/.installed
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest -q -n auto -m 'not (appliance or browser or cloud or remote or whole or xen)'

test: setup-tests check
	$(PYTHON) -m pytest -q -n auto -m 'cloud or remote'
	$(PYTHON) -m pytest -m 'appliance or browser or whole'

# No package of Xen is installed here: dom0 is a disk that is made as a base is made.
test-xen: setup
	$(IMGBUILD) build server node
	$(PYTHON) -m pytest -v --durations=0 -m xen tests/xen

bench: setup-tests
	$(PYTHON) -m benchmarks.build
	$(PYTHON) -m benchmarks.ebs_upload
	$(PYTHON) -m benchmarks.bundle

clean:
	rm -rf .imgbuild build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find imagebuilder tests -name __pycache__ -type d -exec rm -rf {} +
