"""`python -m training fit|validate|evaluate|export`; each explains itself with `--help`."""

from __future__ import annotations

import sys
import warnings

from depthseg_ros.model_card import ModelFileError

from .errors import TrainingError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else ""
    try:
        if command == "evaluate":
            from . import evaluate

            evaluate.main(arguments[1:])
        elif command == "export":
            from . import export

            export.main(arguments[1:])
        elif command in ("fit", "validate"):
            from . import fit

            fit.main(arguments)
        else:
            print(__doc__)
            return 0 if command in ("-h", "--help") else 2
    except (TrainingError, ModelFileError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="lightning|torch.onnx|onnxscript|copyreg")
    sys.exit(main())
