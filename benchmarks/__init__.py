"""Benchmarks; each prints a table, or with `--json` the same as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run(name: str, main: Callable[[], None]) -> int:
    """Run a benchmark; what goes wrong is one line. Returns the exit code."""
    try:
        main()
    except (ValueError, RuntimeError, OSError) as error:  # those of training and backends, too
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
