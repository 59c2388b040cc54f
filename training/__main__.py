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

"""Train, evaluate and export networks for depth and segmentation.

`python -m training COMMAND --help` shows the options of a command:

fit, validate, test, predict   Lightning's command line, with a YAML of training/configs
lr-range-test                  plot the loss over the learning rate and suggest a rate
evaluate                       accuracy of checkpoints and model files on data with ground truth
compare                        train variants with the same budget and compare them in a table
export                         write the model file of a checkpoint
quantize                       write the int8 file of a model file
import                         convert a model of the Hugging Face hub to a model file
bag                            extract frames from a robot's recordings
pseudo-label                   label frames with teacher networks
own-robot                      bag, pseudo-label, fit, evaluate and export in one command
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module

from depthseg_ros.model_card import ModelFileError

from .errors import TrainingError

COMMANDS = {
    "lr-range-test": "lr_range_test",
    "evaluate": "evaluate",
    "compare": "compare",
    "export": "export",
    "quantize": "quantize",
    "import": "import_",
    "bag": "bag",
    "pseudo-label": "pseudo_label",
    "own-robot": "own_robot",
}
"""Command -> module of `cli` with a `main(arguments)`; imported when called, since torch takes
seconds."""

WORKERS_PREFIX = f"{TrainingError.__module__}.{TrainingError.__name__}: "


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else ""
    try:
        if command in COMMANDS:
            import_module(f"training.cli.{COMMANDS[command]}").main(arguments[1:])
        elif command in ("fit", "validate", "test", "predict"):
            from .cli import lightning_commands

            lightning_commands.main(arguments)
        else:
            if command not in ("", "-h", "--help"):
                print(f"training: there is no command {command!r}\n", file=sys.stderr)
            print(__doc__)
            return 0 if command in ("-h", "--help") else 2
    except (TrainingError, ModelFileError, OSError) as error:
        # An error of a data loader's process includes its traceback; the last line is the error.
        line = (str(error).splitlines() or [type(error).__name__])[-1]
        print(f"training: {line.removeprefix(WORKERS_PREFIX)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="lightning|torch.onnx|onnxscript|copyreg")
    sys.exit(main())
