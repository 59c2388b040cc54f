# Copyright 2026 the maintainers of depthseg_ros
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The property that all fuzz tests share: a valid result, or the documented error in one line.

`DEPTHSEG_FUZZ=long` tries more, as `make fuzz` does.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis

LONG = os.environ.get("DEPTHSEG_FUZZ") == "long"
LINE = 500
"""Characters that an error has at most."""
PATIENCE = 60
"""Seconds after which a case hangs; only failures take that long."""
GROWTH = 16.0
"""MB that repeating the same cases may add to the process' memory."""
KEPT, ROUNDS = 60, 20 if LONG else 4
"""Cases that are repeated, and how often."""

RESULTS: list[dict[str, Any]] = []


def memory(process: int | str = "self") -> float:
    """Resident memory of a process, MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"hangs: no result after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_line(text: str) -> None:
    """An error is told in one line that is not without end."""
    assert text and len(text.splitlines()) == 1 and len(text) <= LINE, repr(text[: 2 * LINE])


def examples(number: int) -> hypothesis.settings:
    """So many cases, the same each time."""
    return hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


class Fuzz:
    """Tries generated cases, and counts what became of them."""

    def run(
        self,
        what: str,
        cases: Any,
        call: Callable[[Any], Any],
        valid: Callable[[Any, Any], None],
        errors: tuple[type[Exception], ...] = (ValueError,),
        *,
        short: int,
        long: int,
    ) -> None:
        """Try `call` on generated cases; then repeat some of them and look at the memory.

        Args:
            what: Name of what is tried.
            cases: Strategy of hypothesis; the same cases each time.
            call: What is tried.
            valid: Given a case and its result, raises where that is not as documented.
            errors: Just these are documented, and none derived from them.
            short: How many cases are tried in `make test`.
            long: And in `make fuzz`.
        """
        result = {"what": what, "tried": 0, "refused": 0, "crashes": 0, "growth_mb": 0.0}
        RESULTS.append(result)
        kept: list[Any] = []
        every = max(1, (long if LONG else short) // KEPT)

        def judge(case: Any) -> bool:
            with warnings.catch_warnings(), no_hang():
                warnings.simplefilter("error")
                try:
                    output = call(case)
                except errors as error:
                    assert type(error) in errors, repr(error)
                    check_line(str(error))
                    return False
            valid(case, output)
            return True

        @examples(long if LONG else short)
        @hypothesis.given(cases)
        def one(case: Any) -> None:
            result["tried"] += 1
            try:
                result["refused"] += not judge(case)
            except BaseException:
                result["crashes"] += 1
                raise
            if result["tried"] % every == 0:
                kept.append(case)

        one()
        before = 0.0
        for _ in range(ROUNDS):
            for case in kept:
                judge(case)
            before = before or memory()  # after the first, which fills caches
        result["growth_mb"] = round(memory() - before, 1)
        assert result["growth_mb"] < GROWTH, result
