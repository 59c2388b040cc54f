"""Labels and depth against the truth."""

from __future__ import annotations

from collections.abc import Mapping

from . import Objective


class Supervised(Objective):
    """Any weighted sums of the losses by name, one for each task."""

    usual_depth: Mapping[str, float] = {"relative_l1": 3.0, "log_gradient": 0.5}
