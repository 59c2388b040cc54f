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

import struct
import zlib

import cv2
import numpy as np
import pytest

from depthseg_ros.imaging.compressed import MAX_SIZE, decode

HEIGHT, WIDTH = 48, 64


def picture():
    """A random (H, W, 3) RGB picture."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def smooth():
    """A (H, W, 3) RGB picture that JPEG hardly changes: red to the left, blue to the right."""
    right = np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1))
    return np.dstack([255 - right, np.full_like(right, 40), right]).astype(np.uint8)


def encoded(kind, rgb, *options):
    """What OpenCV writes of an (H, W), (H, W, 3) RGB or (H, W, 4) RGBA picture."""
    order = [2, 1, 0, 3][: rgb.shape[2]] if rgb.ndim == 3 else None
    stored = rgb if order is None else np.ascontiguousarray(rgb[..., order])
    return cv2.imencode(f".{kind}", stored, options)[1].tobytes()


JPEG, PNG = encoded("jpg", smooth()), encoded("png", smooth())


def chunk(name, content):
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(width, height, color, rows, depth=8, extra=b""):
    """A PNG file of `rows`, filter bytes included, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    image = chunk(b"IDAT", zlib.compress(rows))
    return PNG[:8] + chunk(b"IHDR", header) + extra + image + chunk(b"IEND", b"")


def with_exif(jpeg, thumbnail=b""):
    """The JPEG with an EXIF segment: turned by 90 degrees, and a thumbnail if there is one."""
    tags = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    content = b"Exif\0\0" + tags + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def with_size(data, width, height):
    """The file with another size in its header."""
    if data.startswith(b"\x89PNG"):
        header = struct.pack(">II", width, height) + data[24:29]
        return data[:8] + chunk(b"IHDR", header) + data[33:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


WIDE = picture().astype(np.uint16) * 256 + 201
ALPHA = np.full((HEIGHT, WIDTH), 7, np.uint8)


@pytest.mark.parametrize(
    "stored, expected",
    [
        (picture(), picture()),
        (picture()[..., 0], picture()[..., [0, 0, 0]]),
        (np.dstack([picture(), ALPHA]), picture()),
        (np.dstack([picture(), 0 * ALPHA]), picture()),
        (WIDE, picture()),
        (WIDE[..., 0], picture()[..., [0, 0, 0]]),
        (np.dstack([WIDE, ALPHA.astype(np.uint16)]), picture()),
    ],
    ids=["rgb", "gray", "alpha", "transparent", "rgb16", "gray16", "alpha16"],
)
def test_png_gives_its_upper_8_bits_as_rgb(stored, expected):
    result = decode(encoded("png", stored))
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable


PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    "data, expected",
    [
        (png(2, 1, 4, b"\0\x0a\x05\xc8\x09"), [[10] * 3, [200] * 3]),
        (png(2, 1, 0, b"\0\x40", depth=1), [[0] * 3, [255] * 3]),
        (png(2, 1, 3, b"\0\0\1", extra=PALETTE), [[255, 0, 0], [0, 0, 255]]),
        (
            png(2, 1, 3, b"\0\0\1", extra=PALETTE + chunk(b"tRNS", b"\0\1")),
            [[255, 0, 0], [0, 0, 255]],
        ),
    ],
    ids=["gray and alpha", "1 bit", "palette", "transparent palette"],
)
def test_rarer_png(data, expected):
    np.testing.assert_array_equal(decode(data), [expected])


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        encoded("jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded("jpg", smooth(), cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        with_exif(JPEG),
        with_exif(JPEG, thumbnail=JPEG),
        JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],  # markers may be filled up
        JPEG + bytes(1000),  # as V4L2 drivers pad
        with_exif(JPEG) + JPEG,  # as cameras append a preview
    ],
    ids=["jpeg", "progressive", "restarts", "exif", "thumbnail", "fill", "padded", "appended"],
)
def test_jpeg_gives_true_colors_not_turned(data):
    result = decode(data)
    assert result.shape == (HEIGHT, WIDTH, 3) and result.dtype == np.uint8
    assert np.abs(result.astype(int) - smooth()).max() < 12


@pytest.mark.parametrize(
    ("least", "size"),
    [((64, 48), (64, 48)), ((33, 24), (64, 48)), ((32, 24), (32, 24)), ((9, 6), (16, 12)),
     ((8, 6), (8, 6)), ((1, 1), (8, 6))],
)  # fmt: skip
def test_a_jpeg_is_decoded_at_the_part_of_its_size_that_is_enough(least, size):
    for data in (JPEG, with_exif(JPEG)):
        found = decode(data, lambda width, height: least)
        assert found.shape == (size[1], size[0], 3)
        expected = cv2.resize(smooth(), size, interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=6)
    assert decode(PNG, lambda width, height: least).shape == (HEIGHT, WIDTH, 3)


def test_odd_sizes_are_rounded_up_and_wrong_ones_are_not_asked_for():
    odd = encoded("jpg", np.ascontiguousarray(smooth()[:33, :51]))
    assert decode(odd, lambda width, height: (width // 2, height // 2)).shape == (17, 26, 3)
    for size in ((0, 48), (MAX_SIZE + 1, 48)):
        with pytest.raises(ValueError, match="pixels, expected 1x1"):
            decode(with_size(JPEG, *size), lambda width, height: 1 // 0)


def test_gray_jpeg_has_three_equal_channels():
    result = decode(encoded("jpg", smooth()[..., 2]))
    assert (result == result[..., :1]).all()
    assert np.abs(result[..., 0].astype(int) - smooth()[..., 2]).max() < 12


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "empty"),
        (b"GIF89a and more", "neither JPEG nor PNG.*47 49 46 38 39 61"),
        (b"\xff", "neither JPEG nor PNG"),
        (bytes(12) + PNG, "neither JPEG nor PNG.*00 00"),  # compressedDepth's header
        (PNG[:8] + chunk(b"IDAT", bytes(13)) + PNG[33:], "corrupt"),
        (PNG[:40] + bytes(16) + PNG[56:], "corrupt"),
        (JPEG[:20], "cut off"),
        (JPEG[:2] + b"\xff\xd9", "cut off"),
        (JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9", "cut off"),
        (with_size(PNG, MAX_SIZE + 1, 1), f"{MAX_SIZE + 1}x1 pixels"),
        (with_size(PNG, 2**31 - 1, 2**31 - 1), "2147483647x2147483647"),
        (with_size(PNG, 0, 3), "0x3"),
        (with_size(JPEG, 65500, 65500), f"65500x65500 .* {MAX_SIZE}x{MAX_SIZE}"),
        (with_size(JPEG, 3, 0), "3x0"),
        (JPEG[:-2] + 100 * JPEG[JPEG.index(b"\xff\xda") : -2] + JPEG[-2:], "more than 100 scans"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line_that_says_why(data, says):
    with pytest.raises(ValueError, match=says) as error:
        decode(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        PNG,
        with_exif(JPEG, thumbnail=JPEG),
        encoded("jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    ],
    ids=["jpeg", "png", "thumbnail", "progressive"],
)
@pytest.mark.parametrize("left", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("padding", [0, 100])
def test_half_a_picture_is_none(data, left, padding):
    with pytest.raises(ValueError, match="cut off"):
        decode(data[: max(int(left * len(data)), 10)] + bytes(padding))


def test_an_error_of_opencv_is_told_in_one_line(monkeypatch):
    def fail(*_):
        raise cv2.error("OpenCV(9.9.9)\n  Insufficient memory\n")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ValueError, match=r"PNG cannot be decoded: OpenCV\(9.9.9\) Insufficient"):
        decode(PNG)
