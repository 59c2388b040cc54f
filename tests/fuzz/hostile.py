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

"""What cameras never send, or hardly: strategies of messages whose fields ROS would carry."""

from __future__ import annotations

import struct
import zlib
from array import array
from types import SimpleNamespace
from typing import Any

import cv2
import hypothesis.strategies as st
import numpy as np

from depthseg_ros.imaging.compressed import MAX_SIZE
from depthseg_ros.imaging.images import ENCODINGS

LONG_TEXT = "x\n" * 10**5
DATA = 2**18
"""Bytes of data that a message really has, at most."""

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
uint32 = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([0, 1, 2, MAX_SIZE, MAX_SIZE + 1, 2**32 - 1])
odd_encodings = st.sampled_from(["", "odd", "rgb8\n", "RGB8", "64FC4", "p010", LONG_TEXT])
known_encodings = st.sampled_from([*ENCODINGS, "16UC1", "32FC1"])
PIXELS = {"rgba": 4, "bgra": 4, "rgb": 3, "bgr": 3, "8UC3": 3, "8UC4": 4, "yu": 2, "uy": 2}
PIXELS |= {"32FC1": 4, "16UC1": 2, "16UC3": 6, "16UC4": 8}
"""Bytes of a pixel by how an encoding begins."""


@st.composite
def images(draw: Any) -> SimpleNamespace:
    """Of sensor_msgs/Image: right, or with fields that contradict each other."""
    wrong = draw(st.sets(st.sampled_from(["size", "encoding", "step", "data"]), max_size=2))
    size = sizes if "size" in wrong else st.integers(1, 70)
    width, height = draw(size), draw(size)
    encoding = draw(odd_encodings | texts if "encoding" in wrong else known_encodings)
    pixel = next((n for begin, n in PIXELS.items() if encoding.startswith(begin)), 1)
    step = width * pixel * (2 if encoding.endswith("16") else 1)
    step += draw(uint32 if "step" in wrong else st.sampled_from([0, 0, 1, 6]))
    step %= 2**32
    planes = {"nv": 1.5, "i4": 1.5, "yv": 1.5}.get(encoding[:2], 1)
    planes = {"nv24": 3, "yuv420": 1.5}.get(encoding, planes)
    told = int(step * height * planes)
    there = draw(st.sampled_from([0, told - 1, told // 2])) if "data" in wrong else told
    return SimpleNamespace(
        width=width,
        height=height,
        encoding=encoding,
        is_bigendian=draw(st.sampled_from([0, 1, 255])),
        step=step,
        data=array("B", NOISE[: min(max(there, 0), DATA)]),
    )


NOISE = np.random.default_rng(0).integers(0, 256, DATA, np.uint8).tobytes()


def _chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def _files() -> list[bytes]:
    noise = np.frombuffer(NOISE, np.uint8)
    rgb = cv2.resize(noise[: 6 * 8 * 3].reshape(6, 8, 3), (64, 48))
    wide = noise[: 2 * 48 * 64].view(np.uint16).reshape(48, 64)
    kinds: list[tuple[str, Any, list[int]]] = [
        (".jpg", rgb, []),
        (".jpg", rgb, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", rgb[..., 0], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        (".png", rgb, []),
        (".png", np.dstack([rgb, rgb[..., :1]]), []),
        (".png", wide, []),
        (".png", (rgb[..., 0] > 99).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1]),
    ]
    return [cv2.imencode(kind, pixels, more)[1].tobytes() for kind, pixels, more in kinds]


FILES = _files()
COMMON = ["jpeg", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed "]
COMMON += ["bayer_gbrg8; jpeg compressed ", "bayer_grbg16; jpeg compressed bayer_grbg16"]
OF_DEPTH = ["16UC1; png compressed ", "16UC1; compressedDepth png", "32FC1; compressedDepth png"]
formats = st.sampled_from([*COMMON, *OF_DEPTH, "32FC1; compressedDepth rvl", ";;;", LONG_TEXT])


def _resized(data: bytes, width: int, height: int) -> bytes:
    """A JPEG or PNG whose header says another size."""
    if data.startswith(b"\x89PNG"):
        header = struct.pack(">II", width, height) + data[24:29]
        return data[:8] + _chunk(b"IHDR", header) + data[33:]
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    return data[:at] + struct.pack(">HH", height % 2**16, width % 2**16) + data[at + 4 :]


@st.composite
def damaged(draw: Any, files: Any, most: int = 8) -> bytes:
    """A file that was cut, and some bits of which were turned over."""
    data = draw(files)
    if draw(st.integers(0, 2)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, most)) if data else 0):
        # Headers, where most of the meaning lies, as often as all the rest.
        end = draw(st.sampled_from([min(len(data), 200), len(data)]))
        changed[draw(st.integers(0, end - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


@st.composite
def compressed_images(draw: Any) -> SimpleNamespace:
    """Of sensor_msgs/CompressedImage: JPEG and PNG, damaged, of claimed sizes, or nonsense."""
    whole = st.sampled_from(FILES)
    # A claim of a great picture costs its memory where it is believed: few of these.
    claim = st.one_of(st.integers(0, 300), st.sampled_from([0, MAX_SIZE + 1, 65000, 2**31 - 1]))
    claiming = st.builds(_resized, whole, claim, claim)
    great = st.builds(_resized, whole, st.just(MAX_SIZE), st.integers(1, 64))
    data = draw(
        st.one_of(whole, damaged(whole), claiming, damaged(claiming), great, st.binary(max_size=99))
    )
    format = draw(formats | texts)
    if "compressedDepth" in format:
        data = struct.pack("<iff", 0, *draw(st.tuples(floats32, floats32))) + data
    return SimpleNamespace(format=format, data=array("B", data))


floats32 = st.floats(width=32)
floats = st.one_of(
    st.floats(), st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 500.0, 1e9, 1e300]), st.floats(-9, 999)
)


@st.composite
def camera_infos(draw: Any) -> SimpleNamespace:
    """Of sensor_msgs/CameraInfo, more often right than not in each of its parts."""

    def matrix(right: list[float]) -> list[float]:
        values = list(right)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
            values[draw(st.integers(0, len(values) - 1))] = draw(floats)
        return values

    coefficients = st.one_of(st.lists(st.floats(-1, 1), max_size=14), st.lists(floats, max_size=20))
    models = ["plumb_bob", "equidistant", "fisheye", ""] * 3
    models += ["rational_polynomial", "radtan", "none", LONG_TEXT]
    roi = draw(st.tuples(*[st.one_of(st.just(0), st.integers(0, 700), uint32)] * 4))
    size = st.one_of(st.integers(1, 4000), st.integers(1, 4000), uint32)
    binning = st.one_of(st.integers(0, 4), uint32)
    return SimpleNamespace(
        width=draw(size),
        height=draw(size),
        distortion_model=draw(st.sampled_from(models) if draw(st.integers(0, 3)) else texts),
        d=draw(coefficients),
        k=matrix(draw(st.sampled_from([[500.0, 0, 320, 0, 510, 240, 0, 0, 1], [0.0] * 9]))),
        r=matrix([1.0, 0, 0, 0, 1, 0, 0, 0, 1]),
        p=matrix([450.0, 0, 310, 0, 0, 460, 235, 0, 0, 0, 1, 0]),
        binning_x=draw(binning),
        binning_y=draw(binning),
        roi=SimpleNamespace(
            **dict(zip(("x_offset", "y_offset", "width", "height"), roi, strict=True))
        ),
    )
