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


"""Losses against what a teacher computes of the same images: features, and softened classes.

Each is one float32 number, a mean over places or pixels; `numerics` has means over processes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import in_float32, mean_over, normalised


@in_float32
def feature_cosine(features_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Mean of 1 - the cosine between the two feature vectors of each place: 0 to 2.

    Args:
        features_NCHW: The student's, with as many channels as the teacher's.
        teacher_NCHW: The teacher's, of the same size.
    """
    distance_NHW = 1 - F.cosine_similarity(features_NCHW, teacher_NCHW, dim=1)
    return mean_over(distance_NHW, torch.ones_like(distance_NHW, dtype=torch.bool))


@in_float32
def softened_divergence(
    logits_NCHW: Tensor, shares_NCHW: Tensor, where_NHW: Tensor, temperature: float
) -> Tensor:
    """Mean divergence (Kullback-Leibler) of softened probabilities, teacher's and student's.

    After Hinton et al. (2015): both are raised to the power of 1 / temperature, and the divergence
    is multiplied by temperature^2, so that gradients are about as large at any temperature. A pixel
    counts by the sum of its shares.

    Args:
        logits_NCHW: The student's; one channel is the logit of the foreground.
        shares_NCHW: The teacher's probabilities of the student's classes, of which background and
            foreground are two; what lacks to a sum of 1 is none of them.
        where_NHW: Which pixels count, bool.
        temperature: At least 1; the higher, the more the less likely classes matter.
    """
    if logits_NCHW.shape[1] == 1:
        logits_NCHW = torch.cat([torch.zeros_like(logits_NCHW), logits_NCHW], 1)
    softened = shares_NCHW.clamp(min=1e-8) ** (1 / temperature)
    target = softened / softened.sum(1, keepdim=True)
    predicted = (logits_NCHW / temperature).log_softmax(1)
    divergence_NHW = (target * (target.log() - predicted)).sum(1) * temperature**2
    weights = shares_NCHW.sum(1).where(where_NHW, 0)
    return normalised((divergence_NHW * weights).sum(), weights.sum())
