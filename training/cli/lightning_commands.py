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

"""`python -m training fit|validate|test|predict`: Lightning's command line."""

from __future__ import annotations

import logging

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..engine.fit import CommandLine
from ..errors import TrainingError


def is_no_tip(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning is not a tip about packages to install."""
    return "Tip:" not in record.getMessage()


def main(arguments: list[str]) -> None:
    """Run Lightning's command line."""
    logging.getLogger(rank_zero.__name__).addFilter(is_no_tip)
    try:
        CommandLine(arguments)
    except MisconfigurationException as error:
        raise TrainingError(" ".join(str(error).split())) from None
    except SIGTERMException:
        raise SystemExit(143) from None  # a shell's exit code for SIGTERM; Lightning exits with 0
