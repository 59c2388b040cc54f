"""`python -m benchmarks.node_latency`: runs `node/latency.py` in the built package's environment.

As a script of that environment, since the checkout's own folder, which `python -m` looks in first,
has no messages.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    os.environ.pop("PYTHONSAFEPATH", None)  # the script imports what lies beside it
    script = ROOT / "benchmarks/node/latency.py"
    os.execv(ROOT / "tools/env.sh", ["env.sh", "python", str(script), *sys.argv[1:]])
