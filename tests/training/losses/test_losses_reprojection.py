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

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from training.losses.reprojection import (
    edge_aware_smoothness,
    left_right_consistency,
    minimum_reprojection,
    photometric,
    project,
    sample,
    warp_disparity,
)

HEIGHT, WIDTH = 12, 20
FX, FY, CX, CY = 18.0, 16.0, 9.5, 5.0


def pictures(n: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def pixel_grid() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([x, y], -1).float()[None]


def unwarped(target: torch.Tensor, *sources: torch.Tensor) -> list[torch.Tensor]:
    return [photometric(target, source) for source in sources]


def camera(n: int = 1) -> tuple[torch.Tensor, ...]:
    return tuple(torch.full((n,), value) for value in (FX, FY, CX, CY))


def pose(rotation: np.ndarray | None = None, translation=(0.0, 0.0, 0.0)) -> torch.Tensor:
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) if rotation is None else rotation
    matrix[:3, 3] = translation
    return torch.tensor(matrix, dtype=torch.float32)[None]


def turned(degrees: float) -> np.ndarray:
    """About the vertical axis and a little about the optical one."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return about_y @ about_z


def test_photometric_of_flat_pictures_is_in_closed_form():
    a, b = torch.full((1, 3, 4, 5), 0.2), torch.full((1, 3, 4, 5), 0.6)
    ssim = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    expected = 0.85 * (1 - ssim) / 2 + 0.15 * 0.4
    assert photometric(a, b).shape == (1, 4, 5)
    assert photometric(a, b).numpy() == pytest.approx(np.full((1, 4, 5), expected), rel=1e-3)


def test_photometric_is_ssim_of_uniform_windows_and_l1():
    a, b = pictures(seed=1), pictures(seed=2)

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(x, size=(1, 1, 3, 3), mode="mirror")

    x, y = a.double().numpy(), b.double().numpy()
    var_x, var_y = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
    cov = mean(x * y) - mean(x) * mean(y)
    ssim = ((2 * mean(x) * mean(y) + 1e-4) * (2 * cov + 9e-4)) / (
        (mean(x) ** 2 + mean(y) ** 2 + 1e-4) * (var_x + var_y + 9e-4)
    )
    expected = (0.85 * (1 - ssim) / 2 + 0.15 * np.abs(x - y)).mean(1)
    assert photometric(a, b).numpy() == pytest.approx(expected, rel=1e-3)
    assert photometric(a, a).abs().max() < 1e-5


def test_whole_disparities_draw_exactly_the_other_view():
    left = pictures()
    right = left.roll(-3, dims=3)  # what the left shows at x, the right shows at x - 3
    drawn, in_view = warp_disparity(right, torch.full((1, HEIGHT, WIDTH), 3.0))
    assert in_view[0].all(0).tolist() == [x >= 3 for x in range(WIDTH)]
    assert in_view[0].any(0).equal(in_view[0].all(0))
    assert (drawn - left)[..., 3:].abs().max() < 1e-5


def test_disparities_between_pixels_and_varying_draw_the_other_view():
    # A right picture of which every row is 0.1 + 0.04 x is linear: bilinear sampling is exact.
    right = (0.1 + 0.04 * pixel_grid()[..., 0])[:, None]
    disparity = 0.25 + 0.1 * pixel_grid()[..., 0] + 0.05 * pixel_grid()[..., 1]
    drawn, in_view = warp_disparity(right, disparity)
    expected = 0.1 + 0.04 * (pixel_grid()[..., 0] - disparity)
    assert in_view.equal(pixel_grid()[..., 0] - disparity >= 0)
    assert (drawn[:, 0] - expected)[in_view].abs().max() < 1e-5


def test_without_motion_every_pixel_stays():
    depth = 1 + 5 * torch.rand(1, HEIGHT, WIDTH)
    grid = project(depth, pose(), *camera())
    assert (grid - pixel_grid()).abs().max() < 1e-4
    drawn, in_view = sample(pictures(), grid)
    assert in_view.all()
    assert (drawn - pictures()).abs().max() < 1e-4


def test_a_translation_shifts_by_focal_length_over_depth():
    depth = 2 + torch.rand(1, HEIGHT, WIDTH)
    grid = project(depth, pose(translation=(0.3, -0.2, 0.0)), *camera())
    shift = torch.stack([0.3 * FX / depth, -0.2 * FY / depth], -1)
    assert (grid - pixel_grid() - shift).abs().max() < 1e-4
    # Along the optical axis it is a zoom about the principal point.
    grid = project(depth, pose(translation=(0.0, 0.0, 1.0)), *camera())
    centre = torch.tensor([CX, CY])
    zoomed = centre + (pixel_grid() - centre) * (depth / (depth + 1))[..., None]
    assert (grid - zoomed).abs().max() < 1e-4


def test_a_plane_is_drawn_by_its_homography():
    k = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
    rotation, translation = turned(4), np.array([0.2, 0.1, -0.3])
    normal, distance = np.array([0.2, -0.1, 1.0]), 6.0  # the points X with normal . X = distance
    homogeneous = np.concatenate([pixel_grid()[0].double(), np.ones((HEIGHT, WIDTH, 1))], -1)
    rays = homogeneous @ np.linalg.inv(k).T
    depth = torch.tensor(distance / (rays @ normal), dtype=torch.float32)[None]
    moved = (
        homogeneous
        @ (k @ (rotation + np.outer(translation, normal) / distance) @ np.linalg.inv(k)).T
    )
    expected = moved[..., :2] / moved[..., 2:]
    grid = project(depth, pose(rotation, translation), *camera())
    assert grid[0].numpy() == pytest.approx(expected, abs=1e-3)
    # A source that is linear in its own pixels gives the target in closed form.
    source = (0.2 + 0.03 * pixel_grid()[..., 0] + 0.01 * pixel_grid()[..., 1])[:, None]
    drawn, in_view = sample(source, grid)
    target = 0.2 + 0.03 * expected[..., 0] + 0.01 * expected[..., 1]
    seen = in_view[0].numpy()
    assert 0.5 < seen.mean() < 1
    assert drawn[0, 0].numpy()[seen] == pytest.approx(target[seen], abs=1e-4)


def test_what_is_behind_the_other_camera_is_out_of_view():
    depth = torch.full((1, HEIGHT, WIDTH), 2.0)
    depth[..., 10:] = 4.0
    depth.requires_grad_()
    grid = project(depth, pose(translation=(0.0, 0.0, -3.0)), *camera())
    drawn, in_view = sample(pictures(), grid)
    assert not in_view[..., :10].any() and in_view[..., 10:13].any()
    drawn.sum().backward()
    assert depth.grad.isfinite().all() and (depth.grad[..., :10] == 0).all()


def test_unknown_intrinsics_are_out_of_view_and_harm_no_other_sample():
    depth = torch.full((2, HEIGHT, WIDTH), 2.0, requires_grad=True)
    _, fy, cx, cy = camera(2)
    grid = project(
        depth,
        pose(translation=(0.1, 0.0, 0.0)).expand(2, 4, 4),
        torch.tensor([FX, math.nan]),
        fy,
        cx,
        cy,
    )
    drawn, in_view = sample(pictures(2), grid)
    assert in_view[0].any() and not in_view[1].any()
    drawn.sum().backward()
    assert depth.grad.isfinite().all() and (depth.grad[1] == 0).all()


def test_depth_and_motion_are_learned_through_the_drawn_picture():
    source = (0.05 * pixel_grid()[..., 0])[:, None]
    depth = torch.full((1, HEIGHT, WIDTH), 2.0, requires_grad=True)
    motion = pose(translation=(0.2, 0.0, 0.0)).requires_grad_()
    drawn, in_view = sample(source, project(depth, motion, *camera()))
    drawn[:, 0][in_view].sum().backward()
    # d(0.05 (x + fx t / z)) / dz = -0.05 fx t / z^2
    assert depth.grad[in_view].numpy() == pytest.approx(-0.05 * FX * 0.2 / 4, rel=1e-3)
    assert motion.grad[0, 0, 3] == pytest.approx(in_view.sum().item() * 0.05 * FX / 2, rel=1e-3)


def test_consistent_disparities_cost_nothing():
    flat = torch.full((2, HEIGHT, WIDTH), 2.0)
    assert left_right_consistency(flat, flat) == pytest.approx(0, abs=1e-5)
    assert left_right_consistency(flat + 1, flat) == pytest.approx(1 + 1, rel=1e-5)
    # x - left(x) = 0.9 x - 1, and right there is (its x + 1) / 9: the same surface twice.
    x = pixel_grid()[..., 0]
    assert left_right_consistency(0.1 * x + 1, (x + 10) / 9) == pytest.approx(0, abs=1e-4)


def test_samples_without_a_pair_do_not_count():
    left, right = torch.full((2, HEIGHT, WIDTH), 2.0), torch.full((2, HEIGHT, WIDTH), 2.5)
    left[1] = 7
    left.requires_grad_()
    loss = left_right_consistency(left, right, torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 + 0.5, rel=1e-5)
    assert (left.grad[1] == 0).all() and (left.grad[0] != 0).any()
    assert left_right_consistency(left, right, torch.tensor([False, False])) == 0


def test_a_step_of_disparity_costs_less_at_an_edge_of_the_picture():
    disparity = torch.ones(1, 4, 6)
    disparity[..., 3:] = 2
    flat = torch.zeros(1, 3, 4, 6)
    edge = flat.clone()
    edge[..., 3:] = 0.5
    # 4 of 4 x 5 neighbours differ by 1.
    assert edge_aware_smoothness(disparity, flat, normalised=False) == pytest.approx(0.2)
    at_edge = edge_aware_smoothness(disparity, edge, normalised=False)
    assert at_edge == pytest.approx(0.2 * math.exp(-0.5), rel=1e-5)
    assert edge_aware_smoothness(disparity, flat) == pytest.approx(0.2 / 1.5, rel=1e-5)
    assert edge_aware_smoothness(disparity, flat, valid_N=torch.tensor([False])) == 0


def test_every_pixel_is_matched_with_the_neighbour_that_shows_it():
    target, other = pictures(seed=1), pictures(seed=2)
    first, second = target.clone(), target.clone()
    first[..., 10:] = other[..., 10:]
    second[..., :10] = other[..., :10]
    loss, learned = minimum_reprojection(target, [first, second], unwarped(target, other, other))
    # At the seam the windows of SSIM see both sides; beyond it one of the two fits exactly.
    assert loss < 0.1 * photometric(target, first).mean()
    assert learned.all()
    _, learned = minimum_reprojection(target, [first], unwarped(target, other))
    assert learned[..., :9].all() and not learned[..., 11:].any()


def test_what_fits_as_well_unwarped_is_left_out():
    target, source = pictures(seed=1), pictures(seed=2)
    still = source.clone()
    still[..., :10] = target[..., :10]  # half of the picture did not move
    warped = ((target + source) / 2).requires_grad_()
    loss, learned = minimum_reprojection(target, [warped], unwarped(target, still))
    assert not learned[..., :9].any() and learned[..., 11:].all()
    loss.backward()
    assert (warped.grad[..., :8] == 0).all() and (warped.grad[..., 12:] != 0).any()
    errors = photometric(target, warped)
    assert loss.item() == pytest.approx((errors * learned).mean().item(), rel=1e-5)
    # A camera that stands: the warp changes nothing, and nothing is learned.
    loss, learned = minimum_reprojection(target, [source], unwarped(target, source))
    assert loss == 0 and not learned.any()


def test_neighbours_that_a_sample_lacks_do_not_count():
    target, source = pictures(2, seed=1), pictures(2, seed=2)
    near = ((target + source) / 2).requires_grad_()
    black = torch.zeros_like(target)
    alone, _ = minimum_reprojection(target[:1], [near[:1]], unwarped(target[:1], source[:1]))
    valid = [torch.tensor([True, False]), torch.tensor([False, False])]
    loss, learned = minimum_reprojection(
        target, [near, target], unwarped(target, source, black), valid
    )
    loss.backward()
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    assert not learned[1].any()
    assert (near.grad[1] == 0).all() and near.grad.isfinite().all()
    in_view = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    in_view[0, 3:6] = True
    loss, learned = minimum_reprojection(target, [near], unwarped(target, source), [in_view])
    errors = photometric(target, near)
    assert loss.item() == pytest.approx((errors * learned)[in_view].mean().item(), rel=1e-5)


def test_without_any_neighbour_loss_and_gradient_are_zero():
    target = pictures(2)
    warped = pictures(2, seed=3).requires_grad_()
    none = torch.tensor([False, False])
    loss, learned = minimum_reprojection(
        target, [warped], unwarped(target, pictures(2, seed=4)), [none]
    )
    loss.backward()
    assert loss == 0 and not learned.any() and (warped.grad == 0).all()


def test_autocast_and_halves_are_computed_in_float32():
    a, b = pictures(seed=1).half(), pictures(seed=2).half()
    depth, motion = torch.full((1, HEIGHT, WIDTH), 2.0).half(), pose(turned(3)).half()
    expected = [
        photometric(a.float(), b.float()),
        project(depth.float(), motion.float(), *camera()),
        warp_disparity(a.float(), depth.float())[0],
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = [photometric(a, b), project(depth, motion, *camera()), warp_disparity(a, depth)[0]]
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == torch.float32 and torch.allclose(g, e, rtol=1e-6)
