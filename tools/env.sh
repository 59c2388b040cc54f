#!/usr/bin/env bash
# The one environment in which the built package, its ROS 2 and .venv are found:
#   tools/env.sh COMMAND ...    runs a command in it
#   source tools/env.sh         enters it (bash)
# From the checkout's own folder, `python -c` and `python -m` see the sources there before the built
# package, and so no messages: run what needs those as a script or as its installed executable.
# `make setup` comes first: it records in .venv/ros-prefix which ROS 2 it built against (an
# installed one's prefix, or nothing for ROS from PyPI, which lives in .venv itself).

depthseg_ros_env() {
  local root ros libraries
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  if ! ros="$(cat "$root/.venv/ros-prefix" 2>/dev/null)"; then
    echo "tools/env.sh: nothing built yet, run 'make setup' in $root" >&2
    return 1
  fi
  if [ -n "$ros" ]; then
    # shellcheck disable=SC1091
    source "$ros/setup.bash" || return
  else
    # What the wheels' bootstrapper would set, at the price of starting Python twice.
    libraries="$(printf '%s:' "$root"/.venv/lib/python3*/site-packages/ros_*.libs)"
    export LD_LIBRARY_PATH="$root/.venv/lib:$libraries${LD_LIBRARY_PATH:-}"
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
    export AMENT_PREFIX_PATH="$root/.venv" CMAKE_PREFIX_PATH="$root/.venv"
    ROS_DISTRO="$(cat "$root/.venv/ros-distro" 2>/dev/null || echo jazzy)"
    export ROS_DISTRO
    unset COLCON_PREFIX_PATH
  fi
  export VIRTUAL_ENV="$root/.venv"
  case "$PATH" in
    "$root/.venv/bin:"*) ;;
    *) export PATH="$root/.venv/bin:$PATH" ;;
  esac
  if [ -f "$root/.ros/install/local_setup.bash" ]; then
    # shellcheck disable=SC1091
    source "$root/.ros/install/local_setup.bash" || return
  fi
  # Nothing this project starts talks to other machines unless asked to.
  export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  depthseg_ros_env || exit
  exec "$@"
fi
depthseg_ros_env
