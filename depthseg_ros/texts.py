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

"""Shorten text from outside for log lines: it may be very long and have any characters."""

from __future__ import annotations


def shortened(text: str, limit: int = 80) -> str:
    """Return the text in one line of at most `limit` characters; `...` marks a cut.

    Line breaks and control characters are replaced by blanks.
    """
    head = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    line = " ".join(head.split())
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    return line[: limit - 3] + "..."


def one_line(error: Exception) -> str:
    """The error's text in one line of limited length, or its type if it has no text."""
    return shortened(str(error), 500) or type(error).__name__
