"""`python -m training fit|validate`: Lightning's command line with this project's task and data."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from .data import StreetData
from .task import JointTask


class CommandLine(LightningCLI):
    """What both the task and the data need to know is given to the task alone."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the data's copy of each such setting."""
        parser.link_arguments(
            "model.network_size", "data.network_width", compute_fn=lambda size: size[0]
        )
        parser.link_arguments("model.canonical_fx", "data.canonical_fx")


def main(arguments: list[str]) -> None:
    """Run Lightning's command line."""
    CommandLine(
        JointTask,
        StreetData,
        args=arguments,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
    )
