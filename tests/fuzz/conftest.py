"""`DEPTHSEG_FUZZ_RESULTS=FILE` writes what the fuzz tests tried, as JSON."""

import json
import os
from pathlib import Path

import pytest

from tests.fuzz.property import RESULTS, Fuzz


@pytest.fixture
def fuzz() -> Fuzz:
    return Fuzz()


def pytest_sessionfinish() -> None:
    if path := os.environ.get("DEPTHSEG_FUZZ_RESULTS"):
        Path(path).write_text(json.dumps(RESULTS))
