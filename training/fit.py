"""`python -m training fit|validate|test`: Lightning's command line with this project's parts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.cli import LightningCLI

from .data import Mixture
from .task import JointTask


class CommandLine(LightningCLI):
    """Lightning's, with the project's task and data."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        """Parse the arguments and, unless told not to (`run=False`), run what they say."""
        super().__init__(
            JointTask,
            Mixture,
            args=arguments,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            **options,
        )


def main(arguments: list[str]) -> None:
    """Run Lightning's command line."""
    CommandLine(arguments)
