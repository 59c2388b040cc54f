"""`python -m training fit|validate|test`: Lightning's command line with this project's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningCLI

from .checkpoints import read_checkpoint
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

    def _parse_ckpt_path(self) -> None:
        """Refuse a checkpoint that is none, in one line.

        Lightning's own would lay the checkpoint's options over those of the configuration and the
        command line, which here have the last word on resuming too.
        """
        command = self.config.get("subcommand")
        path = command and self.config[command].get("ckpt_path")
        if path and Path(path).is_file():
            read_checkpoint(Path(path))


def main(arguments: list[str]) -> None:
    """Run Lightning's command line."""
    CommandLine(arguments)
