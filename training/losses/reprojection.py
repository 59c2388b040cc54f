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

"""Losses of self-supervised depth: another view, warped to this image by depth, must look the same.

Images are (N, C, H, W) with values 0 to 1. Pixel coordinates start at 0 in the centre of the first
pixel. Samples without another view are masked by `valid`, never by NaN. If the focal length or the
baseline of a sample is unknown, pass a disparity of 0 to `warp_disparity`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import in_float32, mean_over

OUTSIDE = -1e4
"""Coordinate of points that are not in an image, pixels."""

MIN_DEPTH = 1e-3
"""Points with less depth in the other camera are not visible; in the unit of depth."""


@in_float32
def photometric(a_NCHW: Tensor, b_NCHW: Tensor, ssim_weight: float = 0.85) -> Tensor:
    """Photometric error of two images for each pixel, (N, H, W), 0 to 1 (Godard et al. 2017).

    w (1 - SSIM) / 2 + (1 - w) L1, averaged over channels. SSIM uses a uniform 3 x 3 window with
    reflection padding.
    """
    a, b = (F.pad(x, (1, 1, 1, 1), mode="reflect") for x in (a_NCHW, b_NCHW))
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = (_mean_3x3(x) for x in (a, b, a * a, b * b, a * b))
    c1, c2 = 0.01**2, 0.03**2
    covariance = mean_ab - mean_a * mean_b
    variances = mean_aa - mean_a.square() + mean_bb - mean_b.square()
    ssim = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a.square() + mean_b.square() + c1) * (variances + c2)
    )
    dissimilarity = ((1 - ssim) / 2).clamp(0, 1).mean(1)
    return ssim_weight * dissimilarity + (1 - ssim_weight) * (a_NCHW - b_NCHW).abs().mean(1)


def _mean_3x3(x_NCHW: Tensor) -> Tensor:
    # Several times faster than avg_pool2d on CPUs. On GPUs, depthwise convolutions do not use
    # tensor cores, so there is no TF32 rounding.
    channels = x_NCHW.shape[1]
    kernel = x_NCHW.new_full((channels, 1, 3, 3), 1 / 9)
    return F.conv2d(x_NCHW, kernel, groups=channels)


@in_float32
def project(
    depth_NHW: Tensor, pose_N44: Tensor, fx_N: Tensor, fy_N: Tensor, cx_N: Tensor, cy_N: Tensor
) -> Tensor:
    """Project all pixels into another camera with the same intrinsics.

    Args:
        depth_NHW: Depth along the optical axis, in the unit of the pose's translation.
        pose_N44: Transforms points from this camera frame (x right, y down, z forward) to the
            other one.
        fx_N: Focal length in x, pixels.
        fy_N: Focal length in y, pixels.
        cx_N: Principal point in x, pixels.
        cy_N: Principal point in y, pixels.

    Returns:
        (N, H, W, 2), x and y in pixels, for `sample`. Points behind the other camera, and samples
        with unknown intrinsics (NaN), are `OUTSIDE`.
    """
    height, width = depth_NHW.shape[1:]
    intrinsics_4N = torch.stack([fx_N, fy_N, cx_N, cy_N])
    known_N11 = intrinsics_4N.isfinite().all(0)[:, None, None]
    fx, fy, cx, cy = intrinsics_4N[:, :, None, None].where(known_N11, 1.0)
    x = (torch.arange(width, device=depth_NHW.device) - cx) / fx
    y = (torch.arange(height, device=depth_NHW.device)[:, None] - cy) / fy
    point = (depth_NHW * x, depth_NHW * y, depth_NHW)
    # Not a matrix product, which may use TF32 with too little precision for pixels.
    r = pose_N44[:, :3, :, None, None].unbind(1)
    x, y, z = (
        row[:, 0] * point[0] + row[:, 1] * point[1] + row[:, 2] * point[2] + row[:, 3] for row in r
    )
    visible = (z > MIN_DEPTH) & known_N11
    z = z.where(visible, 1.0)
    pixels = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return pixels.where(visible[..., None], OUTSIDE)


@in_float32
def sample(image_NCHW: Tensor, pixels_NHW2: Tensor) -> tuple[Tensor, Tensor]:
    """Sample an image bilinearly at pixel coordinates, with border padding.

    Returns:
        (N, C, H, W), and whether coordinates are inside the image, (N, H, W) bool.
    """
    size = torch.tensor(image_NCHW.shape[:1:-1], device=image_NCHW.device)
    grid = pixels_NHW2 * (2 / (size - 1).clamp(min=1)) - 1
    sampled = F.grid_sample(image_NCHW, grid, padding_mode="border", align_corners=True)
    slack = 1e-3  # tolerance in pixels for rounding at the borders
    in_view = ((pixels_NHW2 >= -slack) & (pixels_NHW2 <= size - 1 + slack)).all(-1)
    return sampled, in_view


@in_float32
def warp_disparity(right_NCHW: Tensor, disparity_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Warp the right image of a rectified pair to the left one.

    Args:
        right_NCHW: The right image. To warp the left image to the right one, pass the left image
            and the negated disparity of the right one.
        disparity_NHW: Disparity of the left image in pixels: x in the left image corresponds to
            x - disparity in the right one.

    Returns:
        See `sample`.
    """
    height, width = disparity_NHW.shape[1:]
    x = torch.arange(width, device=disparity_NHW.device) - disparity_NHW
    y = torch.arange(height, device=disparity_NHW.device)[:, None].to(x).expand_as(x)
    return sample(right_NCHW, torch.stack([x, y], -1))


@in_float32
def left_right_consistency(
    left_NHW: Tensor, right_NHW: Tensor, valid_N: Tensor | None = None
) -> Tensor:
    """Left-right consistency loss of the disparities of a rectified pair (Godard et al. 2017).

    Mean of |left(x) - right(x - left(x))| plus mean of |right(x) - left(x + right(x))|, in pixels,
    over points inside the other image and `valid_N` samples.
    """
    total = left_NHW.new_zeros(())
    for here, there, sign in ((left_NHW, right_NHW, 1), (right_NHW, left_NHW, -1)):
        warped, in_view = warp_disparity(there[:, None], sign * here)
        if valid_N is not None:
            in_view = in_view & valid_N[:, None, None]
        total = total + mean_over((here - warped[:, 0]).abs(), in_view)
    return total


@in_float32
def edge_aware_smoothness(
    disparity_NHW: Tensor,
    image_NCHW: Tensor,
    normalised: bool = True,
    valid_N: Tensor | None = None,
) -> Tensor:
    """Edge-aware smoothness loss (Godard et al. 2017) over `valid_N` samples.

    Mean of |dx d| exp(-|dx I|) plus the same in y, with |dx I| averaged over channels. With
    `normalised`, disparity is divided by its mean, as in Monodepth2 (Godard et al. 2019), so that
    small disparities are not preferred.
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
    """Minimum photometric error over the neighbours at each pixel (Godard et al. 2019).

    Auto-masking sets the error to zero if the unwarped error of a neighbour is not greater: the
    camera stood still, or an object moves with it. Equal errors are masked too, so no noise is
    needed. As in the paper, masked pixels are part of the mean, so images with few useful pixels
    have less weight.

    Args:
        target_NCHW: The image whose depth is trained.
        warped: Each neighbour, warped to the target.
        unwarped_NHW: The `photometric` error of each neighbour without warping, which is the same
            for all scales of depth.
        valid: For each neighbour, a mask of samples, (N,) bool, or of pixels, (N, H, W) bool.
            Pixels without a valid neighbour are ignored.

    Returns:
        The loss, and the mask of pixels with a gradient, (N, H, W) bool.
    """
    if valid is None:
        valid = [target_NCHW.new_ones(len(target_NCHW), dtype=torch.bool)] * len(warped)

    def minimum(errors_NHW: Sequence[Tensor]) -> Tensor:
        counted = [
            error.where(known if known.ndim == 3 else known[:, None, None], torch.inf)
            for error, known in zip(errors_NHW, valid, strict=True)
        ]
        return torch.stack(counted).min(0).values

    error_NHW = minimum([photometric(target_NCHW, image) for image in warped])
    used_NHW = error_NHW < minimum(unwarped_NHW)
    return mean_over(error_NHW.where(used_NHW, 0), error_NHW.isfinite()), used_NHW
