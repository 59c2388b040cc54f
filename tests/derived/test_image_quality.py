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

import cv2
import numpy as np
import pytest

from depthseg_ros import street
from depthseg_ros.derived.image_quality import REPEATS, STILL, ImageQuality

SURE = np.full((480, 640), 245, np.uint8)


@pytest.fixture(scope="module")
def picture():
    return street.Street(3).frame(0).image


def issues_of(image, confidence=SURE):
    return ImageQuality().issues(image, confidence, 0.0)


def with_noise(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4, 7))
def test_a_good_picture_has_no_issue(seed):
    image = street.Street(seed).frame(0).image
    assert issues_of(image) == ()
    assert issues_of(image, None) == ()


@pytest.mark.parametrize("size", [(160, 120), (320, 240), (1280, 720)])
def test_good_and_bad_are_told_apart_at_other_sizes(size, picture):
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    assert issues_of(resized) == ()
    assert issues_of(with_noise(0.03 * resized, 3)) == ("dark",)
    assert issues_of(with_noise(0 * resized + 120, 2)) == ("covered",)


def test_black_and_a_picture_almost_without_light_are_dark(picture):
    assert issues_of(np.zeros_like(picture)) == ("dark",)
    assert issues_of(with_noise(0.03 * picture, 3)) == ("dark",)


def test_a_picture_exposed_eight_times_too_long_is_over_exposed(picture):
    assert "over-exposed" in issues_of(with_noise(8.0 * picture, 2))
    assert issues_of(np.full_like(picture, 255)) == ("over-exposed",)


def test_cloth_and_fog_before_the_lens_are_found(picture):
    cloth = np.linspace(60, 160, 640)[None, :, None] * np.array([1.0, 0.6, 0.5])
    assert issues_of(with_noise(cloth.repeat(480, 0), 2)) == ("covered",)
    fog = 150 + 0.3 * (cv2.GaussianBlur(picture, (0, 0), 16).astype(float) - 128)
    assert issues_of(with_noise(fog, 2)) == ("covered",)


def test_a_picture_drowned_in_noise_is_noisy(picture):
    assert issues_of(with_noise(picture, 60)) == ("noisy",)


def test_low_confidence_is_an_issue(picture):
    assert issues_of(picture, np.full_like(SURE, 128)) == ("low confidence",)


def test_a_picture_is_frozen_once_it_stayed_the_same_for_long_enough(picture):
    camera = ImageQuality()
    stamps = np.arange(0, 2 * STILL, 0.1) + 1e9
    frozen = ["frozen" in camera.issues(picture, SURE, stamp) for stamp in stamps]
    assert frozen == [stamp - stamps[0] >= STILL for stamp in stamps]
    assert camera.issues(with_noise(picture, 1), SURE, stamps[-1] + 0.1) == ()  # it moves again


def test_a_slow_camera_needs_several_repeats(picture):
    camera = ImageQuality()
    frozen = ["frozen" in camera.issues(picture, SURE, 10.0 * k) for k in range(REPEATS + 1)]
    assert frozen == [False] * REPEATS + [True]


def test_a_parked_camera_with_a_sensors_noise_is_not_frozen(picture):
    camera = ImageQuality()
    said = [camera.issues(with_noise(picture, 0.5, k), SURE, 0.5 * k) for k in range(8)]
    assert said == [()] * 8


def test_stamps_that_begin_anew_begin_anew(picture):
    camera = ImageQuality()
    for k in range(2 * REPEATS):
        found = camera.issues(picture, SURE, 100.0 + k)
    assert found == ("frozen",)
    assert camera.issues(picture, SURE, 0.0) == ()


def test_another_size_of_picture_is_another_picture(picture):
    camera = ImageQuality()
    for k in range(2 * REPEATS):
        camera.issues(picture, SURE, float(k))
    assert camera.issues(picture[:240], SURE, 20.0) == ()


OPENCV_4_5 = pytest.mark.skipif(cv2.__version__[:4] == "4.5.", reason="it takes no single pixel")


@pytest.mark.parametrize("size", [pytest.param((1, 1), marks=OPENCV_4_5), (2, 3), (5, 1)])
def test_the_smallest_pictures_are_looked_at_too(size):
    assert issues_of(np.zeros((*size, 3), np.uint8)) == ("dark",)


@pytest.mark.parametrize("pattern", ["camvid/val/*", "redkitchen/*.color.jpg"])
def test_photographs_have_no_issue(pattern, shared_data):
    files = sorted(shared_data.glob(pattern))[::50]
    assert files
    for file in files:
        assert issues_of(cv2.imread(str(file))[..., ::-1]) == (), file.name
