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
from functools import cache

import cv2
import numpy as np
import pytest

from depthseg_ros.derived.stability import StableDepth, step
from depthseg_ros.imaging.geometry import Intrinsics, rays, sample
from depthseg_ros.imaging.lens import Lens
from depthseg_ros.street import CLASS_NAMES, Street

WIDTH, HEIGHT, COUNT = 320, 240, 12
MOVABLE = [CLASS_NAMES.index(name) for name in ("car", "pedestrian", "bicyclist")]


@cache
def drive(seed=5):
    street = Street(seed, WIDTH, HEIGHT)
    return [street.frame(i) for i in range(COUNT)]


@cache
def grid(camera):
    return rays(camera, step(WIDTH))


def sampled(array):
    every = step(WIDTH)
    return array[sample(HEIGHT, every), sample(WIDTH, every)]


def noisy(frames, seed=0):
    """True depth times smooth noise of 4 % that differs from frame to frame."""
    random = np.random.default_rng(seed)
    for frame in frames:
        noise = cv2.resize(random.normal(0, 0.04, (6, 8)), (WIDTH, HEIGHT)) + random.normal(0, 0.02)
        yield (frame.depth * np.exp(noise)).astype(np.float32)


def fused(frames, depths, stable=None, gap=1 / 30):
    stable = stable or StableDepth()
    return [
        stable(f.image, d, grid(f.intrinsics), i * gap, sampled(np.isin(f.labels, MOVABLE)))
        for i, (f, d) in enumerate(zip(frames, depths, strict=True))
    ]


def errors(frames, depths):
    """ln(depth / truth) of static pixels in the second half, a row per frame."""
    half = COUNT // 2
    static = [~np.isin(f.labels, MOVABLE) & np.isfinite(f.depth) for f in frames]
    return [
        np.log(d[s] / f.depth[s])
        for f, d, s in list(zip(frames, depths, static, strict=True))[half:]
    ]


@pytest.mark.parametrize("seed", [5, 12])
def test_depth_of_a_drive_fluctuates_less(seed):
    frames = drive(seed)
    given = list(noisy(frames))
    before, after = errors(frames, given), errors(frames, fused(frames, given))

    def fluctuation(found):
        """Of the scale from frame to frame, and of the pixels about it."""
        levels = [np.median(e) for e in found]
        rest = [np.median(np.abs(e - m)) for e, m in zip(found, levels, strict=True)]
        return np.std(levels), np.mean(rest)

    assert np.less(fluctuation(after), 0.5 * np.array(fluctuation(before))).all()


def test_true_depth_stays_true():
    frames = drive()
    found = errors(frames, fused(frames, [f.depth for f in frames]))
    assert np.mean(np.abs(np.concatenate(found))) < 0.01
    assert abs(np.median(np.concatenate(found))) < 0.003


def test_what_moves_keeps_its_own_depth():
    frames = drive()
    given = list(noisy(frames))
    for frame, own, found in zip(frames, given, fused(frames, given), strict=True):
        inner = cv2.erode(np.isin(frame.labels, MOVABLE).astype(np.uint8), np.ones((7, 7))) > 0
        assert np.array_equal(found[inner], own[inner], equal_nan=True)
        assert np.array_equal(np.isnan(found), np.isnan(own))


def test_what_moves_along_with_the_camera_keeps_its_depth():
    stable, ratios = StableDepth(), []
    for i, frame in enumerate(drive()):
        image, depth = frame.image.copy(), frame.depth.copy()
        image[180:], depth[180:] = 90, 2.0  # the robot's own body
        found = stable(image, depth, grid(frame.intrinsics), i / 10)
        ratios.append(found[200:] / 2.0)
    assert np.abs(np.log(ratios)).max() < 0.12


def test_it_does_not_matter_how_depth_is_scaled():
    frames = drive()
    given = list(noisy(frames))
    found, scaled = fused(frames, given), fused(frames, [50 * d for d in given])
    assert np.allclose(50 * found[-1], scaled[-1], rtol=1e-3, equal_nan=True)


def test_another_scene_begins_again():
    stable, frames = StableDepth(), drive()
    fused(frames, [f.depth for f in frames], stable)
    other = Street(77, WIDTH, HEIGHT).frame(0)
    assert stable(other.image, other.depth, grid(frames[0].intrinsics), 0.4) is other.depth


def test_a_gap_another_camera_or_nothing_to_track_begins_again():
    frames = drive()
    first, second = frames[:2]
    camera = grid(first.intrinsics)
    black = np.zeros_like(second.image)
    for image, rays_of_second, stamp in [
        (second.image, camera, 1.5),
        (second.image, camera, 0.0),
        (second.image, camera, -1.0),
        (second.image, camera * 1.1, 1 / 30),
        (black, camera, 1 / 30),
    ]:
        stable = StableDepth()
        stable(first.image, first.depth, camera, 0.0)
        assert stable(image, second.depth, rays_of_second, stamp) is second.depth
    stable = StableDepth()
    stable(first.image, first.depth, camera, 0.0)
    assert stable(second.image, second.depth, camera, 1 / 30) is not second.depth
    stable.forget()
    assert stable(second.image, second.depth, camera, 2 / 30) is second.depth


def test_depth_without_a_value_and_small_images_pass():
    frame = drive()[0]
    nothing = np.full_like(frame.depth, np.nan)
    stable = StableDepth()
    for i in range(3):
        found = stable(frame.image, nothing, grid(frame.intrinsics), i / 30)
        assert np.isnan(found).all()
    tiny = frame.depth[:8, :8]
    assert stable(frame.image[:8, :8], tiny, grid(frame.intrinsics)[:, :8, :8], 1.0) is tiny


@pytest.mark.parametrize(
    "lens",
    [Lens("plumb_bob", (-0.3, 0.1, 0.0, 0.0)), Lens("equidistant", (0.0, 0.0, 0.0, 0.0))],
    ids=lambda lens: lens.model,
)
def test_lens_distortion_is_taken_into_account(lens):
    pinhole = drive()[0].intrinsics
    focal = pinhole.fx * 1.3  # so that the pinhole image covers the view
    camera = Intrinsics(WIDTH, HEIGHT, focal, focal, pinhole.cx, pinhole.cy, lens)
    x, y = rays(camera)
    u = (x * pinhole.fx + pinhole.cx).astype(np.float32)
    v = (y * pinhole.fy + pinhole.cy).astype(np.float32)
    stable, random = StableDepth(), np.random.default_rng(0)
    kept = rays(camera, step(WIDTH))
    levels = []
    for i, frame in enumerate(drive()):
        image = cv2.remap(frame.image, u, v, cv2.INTER_LINEAR)
        truth = cv2.remap(frame.depth, u, v, cv2.INTER_NEAREST, borderValue=math.nan)
        static = ~np.isin(cv2.remap(frame.labels, u, v, cv2.INTER_NEAREST), MOVABLE)
        own = truth * np.float32(math.exp(random.normal(0, 0.04)))
        found = stable(image, own, kept, i / 30)
        ratio = np.log(found / truth)[static & np.isfinite(truth)]
        levels.append((np.median(np.log(own / truth)[np.isfinite(truth)]), np.median(ratio)))
    before, after = np.std(levels[COUNT // 2 :], axis=0)
    assert after < 0.5 * before
