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

"""Losses of self-supervised depth: another view of the scene, drawn into this one by its depth.

Pictures are (N, C, H, W) with values 0 to 1; pixels are counted from 0 at the centre of the first
one. Samples without another view are left out by a `valid` mask, never by NaN: where the focal
length or the baseline of a sample is unknown, give `warp_disparity` a disparity of 0 for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import in_float32, mean_over

OUTSIDE = -1e4
"""Coordinate of what is nowhere in a picture, pixels."""

LEAST_DEPTH = 1e-3
"""What is nearer to the other camera, or behind it, is out of its view; in units of the depth."""


@in_float32
def photometric(a_NCHW: Tensor, b_NCHW: Tensor, ssim_weight: float = 0.85) -> Tensor:
    """Difference of two pictures at each pixel, (N, H, W), 0 to 1 (Godard et al. 2017).

    w (1 - SSIM) / 2 + (1 - w) L1, means over the channels; SSIM is that of 3 x 3 pixels of equal
    weight, mirrored at the borders.
    """
    a, b = (F.pad(x, (1, 1, 1, 1), mode="reflect") for x in (a_NCHW, b_NCHW))
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = (_mean_3x3(x) for x in (a, b, a * a, b * b, a * b))
    c1, c2 = 0.01**2, 0.03**2
    covariance = mean_ab - mean_a * mean_b
    variances = mean_aa - mean_a.square() + mean_bb - mean_b.square()
    ssim = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a.square() + mean_b.square() + c1) * (variances + c2)
    )
    unlike = ((1 - ssim) / 2).clamp(0, 1).mean(1)
    return ssim_weight * unlike + (1 - ssim_weight) * (a_NCHW - b_NCHW).abs().mean(1)


def _mean_3x3(x_NCHW: Tensor) -> Tensor:
    # On CPUs several times faster than avg_pool2d; on GPUs no tensor core rounds it, since there
    # convolutions of each channel by itself have a kernel of their own.
    channels = x_NCHW.shape[1]
    kernel = x_NCHW.new_full((channels, 1, 3, 3), 1 / 9)
    return F.conv2d(x_NCHW, kernel, groups=channels)


@in_float32
def project(
    depth_NHW: Tensor, pose_N44: Tensor, fx_N: Tensor, fy_N: Tensor, cx_N: Tensor, cy_N: Tensor
) -> Tensor:
    """Where another camera, of the same intrinsics, sees what each pixel of this one shows.

    Args:
        depth_NHW: Along the optical axis of this camera; in the unit of the pose's translation.
        pose_N44: Takes a point in this camera's coordinates (x right, y down, z forward) to the
            other's.
        fx_N: Focal length in x, pixels; so `fy_N` in y.
        fy_N: See `fx_N`.
        cx_N: Principal point in x, pixels; so `cy_N` in y.
        cy_N: See `cx_N`.

    Returns:
        (N, H, W, 2), x and y in pixels, for `sample`. What the other camera has no view of,
        because it is behind it or because the sample's intrinsics are unknown (NaN), is `OUTSIDE`.
    """
    height, width = depth_NHW.shape[1:]
    intrinsics_4N = torch.stack([fx_N, fy_N, cx_N, cy_N])
    known_N11 = intrinsics_4N.isfinite().all(0)[:, None, None]
    fx, fy, cx, cy = intrinsics_4N[:, :, None, None].where(known_N11, 1.0)
    x = (torch.arange(width, device=depth_NHW.device) - cx) / fx
    y = (torch.arange(height, device=depth_NHW.device)[:, None] - cy) / fy
    point = (depth_NHW * x, depth_NHW * y, depth_NHW)
    # Written out: a matrix product may be run in TF32, too coarse for pixels.
    r = pose_N44[:, :3, :, None, None].unbind(1)
    x, y, z = (
        row[:, 0] * point[0] + row[:, 1] * point[1] + row[:, 2] * point[2] + row[:, 3] for row in r
    )
    seen = (z > LEAST_DEPTH) & known_N11
    z = z.where(seen, 1.0)
    pixels = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return pixels.where(seen[..., None], OUTSIDE)


@in_float32
def sample(image_NCHW: Tensor, pixels_NHW2: Tensor) -> tuple[Tensor, Tensor]:
    """Picture at the given places, bilinear, and where these are in view, (N, H, W) bool.

    Outside of the picture its border goes on.
    """
    size = torch.tensor(image_NCHW.shape[:1:-1], device=image_NCHW.device)
    grid = pixels_NHW2 * (2 / (size - 1).clamp(min=1)) - 1
    drawn = F.grid_sample(image_NCHW, grid, padding_mode="border", align_corners=True)
    slack = 1e-3  # pixels, for what rounding puts beyond the outermost centres
    in_view = ((pixels_NHW2 >= -slack) & (pixels_NHW2 <= size - 1 + slack)).all(-1)
    return drawn, in_view


@in_float32
def warp_disparity(right_NCHW: Tensor, disparity_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """The left picture of a rectified pair, drawn from the right one, and where that is in view.

    `disparity_NHW` is the left picture's, in pixels: what the left shows at x, the right shows at
    x - disparity. A right picture is drawn from the left one by its own disparity, negated.
    """
    height, width = disparity_NHW.shape[1:]
    x = torch.arange(width, device=disparity_NHW.device) - disparity_NHW
    y = torch.arange(height, device=disparity_NHW.device)[:, None].to(x).expand_as(x)
    return sample(right_NCHW, torch.stack([x, y], -1))


@in_float32
def left_right_consistency(
    left_NHW: Tensor, right_NHW: Tensor, valid_N: Tensor | None = None
) -> Tensor:
    """Mean difference of the disparities of a rectified pair, both ways (Godard et al. 2017).

    |left(x) - right(x - left(x))| where in view, plus |right(x) - left(x + right(x))|, in pixels.
    Samples that are not `valid_N` do not count.
    """
    total = left_NHW.new_zeros(())
    for here, there, sign in ((left_NHW, right_NHW, 1), (right_NHW, left_NHW, -1)):
        drawn, in_view = warp_disparity(there[:, None], sign * here)
        if valid_N is not None:
            in_view = in_view & valid_N[:, None, None]
        total = total + mean_over((here - drawn[:, 0]).abs(), in_view)
    return total


@in_float32
def edge_aware_smoothness(
    disparity_NHW: Tensor,
    image_NCHW: Tensor,
    normalised: bool = True,
    valid_N: Tensor | None = None,
) -> Tensor:
    """Mean of |dx d| exp(-|dx I|) plus that in y: disparity may step where the picture does.

    After Godard et al. 2017; `normalised`, each disparity is divided by its mean first, as in
    Monodepth2 (Godard et al. 2019), so that shrinking it does not help. |dx I| is the mean over
    the channels. Samples that are not `valid_N` do not count.
    """
    d = disparity_NHW
    if normalised:
        d = d / d.mean((1, 2), keepdim=True).clamp(min=1e-6)
    total = d.new_zeros(())
    for axis in (1, 2):
        edges = torch.diff(image_NCHW, dim=axis + 1).abs().mean(1)
        steps = torch.diff(d, dim=axis).abs() * torch.exp(-edges)
        counted = torch.ones_like(steps, dtype=torch.bool)
        if valid_N is not None:
            counted = counted & valid_N[:, None, None]
        total = total + mean_over(steps, counted)
    return total


@in_float32
def minimum_reprojection(
    target_NCHW: Tensor,
    warped: Sequence[Tensor],
    unwarped_NHW: Sequence[Tensor],
    valid: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Photometric error of the neighbour that fits best at each pixel (Godard et al. 2019).

    Auto-masked: a pixel is left out, as zero, where some neighbour fits as well unwarped, be it
    that the camera stood or that something moves along with it. A tie leaves out too, so that no
    noise is needed. As in the paper the mean is over the left-out pixels as well: the less there
    is to learn from, the less it weighs.

    Args:
        target_NCHW: The picture whose depth is learned.
        warped: Each neighbour as drawn into the target.
        unwarped_NHW: The `photometric` error of each neighbour as it is, which is the same for all
            scales of the depth.
        valid: For each neighbour which samples have it, (N,) bool, or which pixels have it in
            view, (N, H, W) bool. A pixel without any does not count.

    Returns:
        The loss, and the pixels that it learns from, (N, H, W) bool.
    """
    if valid is None:
        valid = [target_NCHW.new_ones(len(target_NCHW), dtype=torch.bool)] * len(warped)

    def least(errors_NHW: Sequence[Tensor]) -> Tensor:
        counted = [
            error.where(known if known.ndim == 3 else known[:, None, None], torch.inf)
            for error, known in zip(errors_NHW, valid, strict=True)
        ]
        return torch.stack(counted).min(0).values

    error_NHW = least([photometric(target_NCHW, picture) for picture in warped])
    learned_NHW = error_NHW < least(unwarped_NHW)
    return mean_over(error_NHW.where(learned_NHW, 0), error_NHW.isfinite()), learned_NHW
