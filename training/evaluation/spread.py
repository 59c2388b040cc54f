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

"""Calibration of the depth confidence: two numbers that correct the scale of the depth error."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from scipy.optimize import minimize
from torch import Tensor

from ..data.sources import Source
from ..devices import chosen_device
from ..models.blocks import resize
from ..models.served import TOLERANCE, ServedModel, within_share
from .temperature import PIXELS, calibration_batches


def spread(served: ServedModel, sources: Iterable[Source]) -> tuple[float, float]:
    """Fit the factor f and power p of the error's scale b, which becomes f * b^p.

    The confidence is the probability that depth is within 10 % of the truth. f and p have the
    smallest cross-entropy against whether it is, as the temperature has for labels. The order of
    pixels by confidence does not change.

    Args:
        served: Graph of a system that predicts the scale of its error, in evaluation mode.
        sources: Data sets with depth that the system was not trained on.

    Returns:
        f and p; 1 and 1, with a warning, if no image has depth.
    """
    rng = torch.Generator().manual_seed(0)
    device = chosen_device()
    running = copy.deepcopy(served).to(device)
    scales, rights = [], []
    for batch in calibration_batches(served, sources):
        truth = batch["depth"][0]
        with torch.inference_mode():
            outputs = running(*(batch[name].to(device) for name in served.inputs))
            depth = outputs[served.outputs.index("depth")][0].cpu()
            scale = running.log_scale(*(batch[name].to(device) for name in served.image_inputs))
            scale = resize(scale, truth.shape)[0, 0].cpu()
        known = (truth.isfinite() & (truth > 0) & depth.isfinite()).flatten().nonzero()[:, 0]
        if not len(known):
            continue
        chosen = known[torch.randint(len(known), (PIXELS,), generator=rng)]
        scales.append(scale.flatten()[chosen])
        error = depth.flatten()[chosen].log() - truth.flatten()[chosen].log()
        rights.append(error.abs() < TOLERANCE)
    if not scales:
        rank_zero_warn("The depth confidence is not calibrated: no image of the data has depth")
        return 1.0, 1.0
    return fitted_spread(torch.cat(scales), torch.cat(rights))


def fitted_spread(log_scale_P: Tensor, right_P: Tensor) -> tuple[float, float]:
    """Fit f and p for pixels with the predicted ln b and whether depth is within 10 %."""
    log_scale, right = log_scale_P.double(), right_P.double()

    def loss(values: np.ndarray) -> float:
        share = within_share(log_scale, (math.exp(values[0]), math.exp(values[1])))
        share = share.clamp(1e-6, 1 - 1e-6)
        return float(torch.nn.functional.binary_cross_entropy(share, right))

    log_factor, log_power = minimize(loss, (0.0, 0.0), method="Nelder-Mead").x
    return math.exp(log_factor), math.exp(log_power)
