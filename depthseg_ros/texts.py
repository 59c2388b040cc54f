"""Text that came from elsewhere, fit to be told: it may be of megabytes, and of any characters."""

from __future__ import annotations


def shortened(text: str, limit: int = 80) -> str:
    """The text in one line of at most `limit` characters; `...` stands for what is left out.

    What breaks lines or steers terminals becomes a blank.
    """
    head = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    line = " ".join(head.split())
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    return line[: limit - 3] + "..."


def one_line(error: Exception) -> str:
    """The error's text in a line that is not endless, or its kind if it says nothing."""
    return shortened(str(error), 500) or type(error).__name__
