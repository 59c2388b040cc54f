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


"""Distillation losses: features and softened class probabilities of a teacher.

Each is a float32 scalar, a mean over feature vectors or pixels, see `numerics`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.blocks import with_background_logit
from .numerics import in_float32, mean_over, normalised


@in_float32
def feature_cosine(features_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Mean of 1 - cosine similarity between corresponding feature vectors, 0 to 2.

    Args:
        features_NCHW: Features of the student, projected to the channels of the teacher.
        teacher_NCHW: Features of the teacher, of the same shape.
    """
    distance_NHW = 1 - F.cosine_similarity(features_NCHW, teacher_NCHW, dim=1)
    return mean_over(distance_NHW, torch.ones_like(distance_NHW, dtype=torch.bool))


@in_float32
def softened_divergence(
    logits_NCHW: Tensor, shares_NCHW: Tensor, where_NHW: Tensor, temperature: float
) -> Tensor:
    """Mean Kullback-Leibler divergence of softened probabilities (Hinton et al. 2015).

    Probabilities are raised to the power of 1 / temperature and normalised. The divergence is
    multiplied by temperature^2, so that gradients have a similar magnitude at any temperature.
    Pixels are weighted by the sum of the teacher's probabilities.

    Args:
        logits_NCHW: Logits of the student; a single channel is the foreground logit.
        shares_NCHW: Probabilities of the student's classes from the teacher (background and
            foreground for a single logit). The sum is below 1 if other classes are possible.
        where_NHW: Mask of the pixels to use, bool.
        temperature: At least 1; higher values increase the influence of unlikely classes.
    """
    softened = shares_NCHW.clamp(min=1e-8) ** (1 / temperature)
    target = softened / softened.sum(1, keepdim=True)
    predicted = (with_background_logit(logits_NCHW) / temperature).log_softmax(1)
    divergence_NHW = (target * (target.log() - predicted)).sum(1) * temperature**2
    weights = shares_NCHW.sum(1).where(where_NHW, 0)
    return normalised((divergence_NHW * weights).sum(), weights.sum())
