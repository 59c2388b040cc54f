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

"""`python -m training lr-range-test`: the loss while the learning rate rises, and what to take.

After Smith (2017): train some steps with a rate that grows exponentially, from one that does
nothing to one that diverges, and take the rate at which the loss falls fastest.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..engine.lr_range_test import draw, range_test
from ..errors import check_output


def main(arguments: list[str]) -> None:
    """Run the test as a configuration would begin to train, draw it, and print the proposal."""
    parser = argparse.ArgumentParser(
        prog="python -m training lr-range-test",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="All other arguments, --config CONFIG first of all, are those of 'fit'.",
        allow_abbrev=False,
    )
    parser.add_argument("--min-rate", type=float, default=1e-6, help="default: %(default)g")
    parser.add_argument("--max-rate", type=float, default=1.0, help="default: %(default)g")
    parser.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, default=Path("lr-range-test.png"), help="default: %(default)s"
    )
    options, of_fit = parser.parse_known_args(arguments)

    check_output(options.output)
    from ..engine.fit import CommandLine  # it imports all of training

    with tempfile.TemporaryDirectory(prefix="lr-range-test-") as folder:
        # Only the curve is to be left behind; Lightning runs no callbacks in its test anyway.
        command_line = CommandLine(
            [
                *of_fit,
                f"--trainer.default_root_dir={folder}",
                "--trainer.logger=false",
                "--trainer.callbacks=null",
                "--trainer.enable_checkpointing=false",
                "--trainer.enable_progress_bar=false",
                "--trainer.enable_model_summary=false",
            ],
            run=False,
            save_config_callback=None,
        )
        trainer, task = command_line.trainer, command_line.model
        found = range_test(
            trainer,
            task,
            command_line.datamodule,
            options.min_rate,
            options.max_rate,
            options.steps,
        )
    if trainer.is_global_zero:
        draw(options.output, *found)
        configured = task.hparams.learning_rate
        print(
            f"proposed learning rate: {found.proposal:.2g}"
            f" (configured: {configured:.2g}; curve: {options.output})"
        )
