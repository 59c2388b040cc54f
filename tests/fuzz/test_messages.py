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

"""What a camera may send: pictures, depth, calibrations."""

from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np

from depthseg_ros.imaging.compressed import MAX_SIZE
from depthseg_ros.imaging.geometry import rays
from depthseg_ros.imaging.images import (
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
    intrinsics,
    labels_of,
    lens_of,
)
from depthseg_ros.imaging.lens import Lens
from tests.fuzz.hostile import camera_infos, compressed_images, images

DEPTH = (compressed_depth_to_metres, depth_to_metres)


def reader(case):
    """What is to read a message: what suits it, or any."""
    any_of_them, message = case
    if any_of_them is not None:
        return any_of_them
    if hasattr(message, "format"):
        depth = message.format.startswith(("16UC1", "32FC1"))
        return compressed_depth_to_metres if depth else compressed_to_rgb
    if message.encoding in ("16UC1", "32FC1"):
        return depth_to_metres
    return labels_of if message.encoding == "8UC1" else image_to_rgb


def read(case):
    return reader(case)(case[1])


def is_picture(case, array):
    function, message = reader(case), case[1]
    assert array.dtype == (np.float32 if function in DEPTH else np.uint8)
    assert array.flags.c_contiguous
    height, width = array.shape[:2]
    assert array.shape[2:] == ((3,) if function in (image_to_rgb, compressed_to_rgb) else ())
    assert 0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE
    if hasattr(message, "height"):
        assert (height, width) == (message.height, message.width)
    if function in DEPTH:
        assert (np.isnan(array) | (np.isfinite(array) & (array > 0))).all()


def test_images(fuzz):
    readers = st.sampled_from([None, None, None, image_to_rgb, depth_to_metres, labels_of])
    cases = st.tuples(readers, images())
    fuzz.run("Image", cases, read, is_picture, short=200, long=8000)


def test_the_greatest_picture():
    data = np.zeros(MAX_SIZE * MAX_SIZE, np.uint8)
    message = SimpleNamespace(
        width=MAX_SIZE, height=MAX_SIZE, encoding="mono8", is_bigendian=0, step=MAX_SIZE, data=data
    )
    is_picture((None, message), read((None, message)))


def test_compressed_images(fuzz):
    readers = st.sampled_from([None, None, None, compressed_to_rgb, compressed_depth_to_metres])
    cases = st.tuples(readers, compressed_images())
    fuzz.run("CompressedImage", cases, read, is_picture, short=200, long=8000)


def calibrated(case):
    info, rectified = case
    camera, lens = intrinsics(info, rectified).scaled(8, 6), lens_of(info)
    return camera, lens, rays(camera), rays(replace(camera, lens=lens))


def is_camera(case, output):
    camera, lens, straight, bent = output
    assert bent.shape == (2, 6, 8) and bent.dtype == np.float32
    assert all(type(value) is float for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    assert camera.width > 0 and camera.height > 0 and isinstance(lens, Lens)
    assert straight.shape == (2, 6, 8) and straight.dtype == np.float32
    assert np.isfinite(straight).all()


def test_camera_infos(fuzz):
    cases = st.tuples(camera_infos(), st.booleans())
    fuzz.run("CameraInfo", cases, calibrated, is_camera, short=200, long=4000)
