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

"""The motion between two pictures, against the true poses of rendered streets."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthseg_ros.imaging.geometry import Intrinsics, rays
from depthseg_ros.imaging.lens import Lens
from depthseg_ros.street import Street
from training.data.classes import CAMVID
from training.data.readers.rgbd_sequence import RgbdSequence
from training.errors import TrainingError
from training.own_robot.motion import camera_motion

WIDTH, HEIGHT = 480, 360
MOVABLE = [c.id for c in CAMVID if "movable" in c.flags]


@pytest.fixture(scope="module")
def pairs():
    """Two frames each of several streets, a tenth or a fifth of a second apart, either way."""
    found = []
    for seed, gap in ((20, 6), (21, -6), (22, 3), (23, 6)):
        street = Street(seed, WIDTH, HEIGHT)
        found.append((street.frame(90), street.frame(90 + gap)))
    return found


def true_motion(frame, other):
    return np.linalg.inv(other.pose) @ frame.pose


def errors(found, true):
    """Degrees, and metres."""
    turn = cv2.Rodrigues((found @ np.linalg.inv(true))[:3, :3])[0]
    return np.degrees(np.linalg.norm(turn)), np.linalg.norm(found[:3, 3] - true[:3, 3])


def uneven(depth, rng, strength=0.1):
    """Wrong by so much, alike in patches of some 80 pixels."""
    cells = rng.normal(0, strength, (HEIGHT // 80 + 2, WIDTH // 80 + 2)).astype(np.float32)
    return depth * np.exp(cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize(
    ("perturbed", "degrees", "share"),
    [
        (lambda depth, rng: depth, 0.1, 0.05),
        (lambda depth, rng: depth * np.exp(rng.normal(0, 0.1, depth.shape)), 0.1, 0.05),
        (uneven, 0.2, 0.1),
    ],
    ids=["true", "noise of a tenth", "uneven by a tenth"],
)
def test_motions_are_found_from_depth(pairs, perturbed, degrees, share):
    rng = np.random.default_rng(0)
    off, gone = [], []
    for frame, other in pairs:
        depth = perturbed(frame.depth, rng).astype(np.float32)
        still = ~np.isin(frame.labels, MOVABLE)
        found = camera_motion(frame.image, depth, other.image, frame.intrinsics, still)
        true = true_motion(frame, other)
        off.append(errors(found, true))
        gone.append(np.linalg.norm(true[:3, 3]))
    turned, shifted = np.transpose(off)
    assert turned.max() < degrees
    assert (shifted / gone).max() < share
    assert np.median(shifted / gone) < share / 2


def test_motions_are_as_large_as_depth_is(pairs):
    frame, other = pairs[0]
    motion = camera_motion(frame.image, frame.depth, other.image, frame.intrinsics)
    larger = camera_motion(frame.image, frame.depth * 1.3, other.image, frame.intrinsics)
    np.testing.assert_allclose(larger[:3, 3], motion[:3, 3] * 1.3, atol=0.01)
    np.testing.assert_allclose(larger[:3, :3], motion[:3, :3], atol=1e-3)


def test_movable_pixels_are_not_used(pairs):
    frame, other = pairs[0]
    # Most of the picture moves along with the camera, as a crowd in front of it might.
    moved = other.image.copy()
    moves = np.zeros((HEIGHT, WIDTH), bool)
    moves[:, 120:] = True
    moved[moves] = frame.image[moves]
    true = true_motion(frame, other)
    found = camera_motion(frame.image, frame.depth, moved, frame.intrinsics, ~moves)
    assert errors(found, true)[1] < 0.1 * np.linalg.norm(true[:3, 3])
    fooled = camera_motion(frame.image, frame.depth, moved, frame.intrinsics)
    assert fooled is None or errors(fooled, true)[1] > 0.5 * np.linalg.norm(true[:3, 3])


@pytest.mark.parametrize(
    "lens",
    [Lens("plumb_bob", (-0.3, 0.08, 0.001, -0.001)), Lens("equidistant", (0.02, -0.01, 0, 0))],
    ids=lambda lens: lens.model,
)
def test_the_lens_is_undone(pairs, lens):
    frame, other = pairs[3]
    ideal = frame.intrinsics
    camera = replace(
        ideal, fx=0.9 * ideal.fx, fy=0.88 * ideal.fy, cx=ideal.cx + 5, cy=ideal.cy - 9, lens=lens
    )
    x, y = rays(camera)
    at = (x * np.float32(ideal.fx) + np.float32(ideal.cx)).astype(np.float32)
    down = (y * np.float32(ideal.fy) + np.float32(ideal.cy)).astype(np.float32)
    image, later = (cv2.remap(f.image, at, down, cv2.INTER_LINEAR) for f in (frame, other))
    depth = cv2.remap(frame.depth, at, down, cv2.INTER_NEAREST, borderValue=np.nan)
    true = true_motion(frame, other)
    turned, shifted = errors(camera_motion(image, depth, later, camera), true)
    assert turned < 0.1 and shifted < 0.04 * np.linalg.norm(true[:3, 3])


def test_a_camera_that_stands_does_not_move(pairs):
    frame, _ = pairs[0]
    grain = np.random.default_rng(0).normal(0, 3, frame.image.shape)
    again = (frame.image + grain).clip(0, 255).astype(np.uint8)
    found = camera_motion(frame.image, frame.depth, again, frame.intrinsics)
    turned, shifted = errors(found, np.eye(4))
    assert turned < 0.01 and shifted < 0.002


def grainy(seed):
    grain = np.random.default_rng(seed).normal(0, 3, (HEIGHT, WIDTH, 3))
    return (128 + grain).round().astype(np.uint8)


def test_there_is_no_telling_without_texture(pairs):
    frame, _ = pairs[0]
    flat = np.full_like(frame.image, 128)
    assert camera_motion(flat, frame.depth, flat, frame.intrinsics) is None
    # The grain of a camera is no texture, though it has corners.
    assert camera_motion(grainy(0), frame.depth, grainy(1), frame.intrinsics) is None


def test_there_is_no_telling_from_another_place(pairs):
    (frame, _), (elsewhere, _) = pairs[:2]
    assert camera_motion(frame.image, frame.depth, elsewhere.image, frame.intrinsics) is None


def test_there_is_no_telling_from_little_depth(pairs):
    frame, other = pairs[0]
    unknown = np.full_like(frame.depth, np.nan)
    assert camera_motion(frame.image, unknown, other.image, frame.intrinsics) is None
    corner = unknown.copy()
    corner[-90:, :90] = frame.depth[-90:, :90]
    assert camera_motion(frame.image, corner, other.image, frame.intrinsics) is None
    nothing = np.zeros_like(frame.depth)
    assert camera_motion(frame.image, nothing, other.image, frame.intrinsics) is None


def test_sizes_that_differ_are_refused(pairs):
    frame, other = pairs[0]
    with pytest.raises(TrainingError, match=r"\(180, 240\).*expected the camera's \(360, 480\)"):
        camera_motion(frame.image, frame.depth[::2, ::2], other.image, frame.intrinsics)


def test_motions_of_a_real_camera_are_found(shared_data):
    """Depth is registered loosely and poses are estimates, too: not closer than they are."""
    root = shared_data / "redkitchen"
    if not root.is_dir():
        pytest.skip("needs shared/data/redkitchen")
    data = RgbdSequence(root, "all", neighbours=6)
    off = []
    for index in range(20, 380, 45):
        sample = data[index]
        height, width = sample.depth.shape
        centre = ((width - 1) / 2, (height - 1) / 2)
        camera = Intrinsics(width, height, sample.fx, sample.fx, *centre)
        found = camera_motion(sample.image, sample.depth, sample.views["next"], camera)
        pose, later = (
            np.loadtxt(root / f"frame-{2 * (index + ahead):06d}.pose.txt") for ahead in (0, 3)
        )
        off.append(errors(found, np.linalg.inv(later) @ pose))
    assert np.median(off, 0)[0] < 0.6 and np.median(off, 0)[1] < 0.015
