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

"""Image files as people have them: cut off, rotated by a flag, with palettes, of other formats."""

import io
import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from depthseg_ros.imaging import image_files
from depthseg_ros.imaging.image_files import (
    by_stem,
    list_images,
    orientation,
    read_image,
    read_labels,
    read_stored,
)
from depthseg_ros.model_card import ModelFileError
from depthseg_ros.model_card import read as read_card
from depthseg_ros.sources import file_frames, is_video, video_frames

IDS = np.random.default_rng(0).integers(0, 12, (6, 9)).astype(np.uint8)
LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\n"
)


@pytest.fixture(scope="module")
def scene():
    """(48, 64, 3) RGB, smooth with some texture."""
    rows, columns = np.mgrid[:48, :64]
    noise = np.random.default_rng(0).integers(0, 30, (48, 64))
    return np.stack([rows * 4 + noise, columns * 3 + noise, 255 - rows * 4], 2).astype(np.uint8)


def encoded(scene, kind, **options):
    target = io.BytesIO()
    Image.fromarray(scene).save(target, kind, **options)
    return target.getvalue()


def test_an_image_is_read_as_rgb(tmp_path):
    bgr = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), bgr)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), bgr[..., ::-1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "there is no image"),
        (".", None, "there is no image"),
        ("bad.png", b"nothing", r"bad\.png cannot be read as an image$"),
        ("empty.jpg", b"", r"empty\.jpg is empty$"),
        ("lfs.jpg", LFS, r"lfs\.jpg is a pointer of Git LFS, .* git lfs pull"),
        ("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image, .* convert it to JPEG"),
        ("a.heif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "is a HEIC image"),
        ("a.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "is an AVIF image"),
    ],
)
def test_what_is_not_an_image_is_named_for_what_it_is(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


def test_an_image_larger_than_opencv_takes_is_refused(tmp_path):
    data = bytearray(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "large.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot be read as an image: .* too large"):
        read_image(tmp_path / "large.png")


def test_a_model_file_that_git_lfs_keeps_elsewhere_is_named(tmp_path):
    (tmp_path / "street.onnx").write_bytes(LFS)
    with pytest.raises(ModelFileError, match=r"street\.onnx is a pointer of Git LFS"):
        read_card(tmp_path / "street.onnx")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 1}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
    ],
)
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path, scene, kind, options):
    data, path = encoded(scene, kind, **options), tmp_path / "a.img"
    path.write_bytes(data)
    assert read_image(path).shape == scene.shape
    # The JPEG's own check: OpenCV before 4.11 reads it, and later ones refuse in other words.
    message = "is cut off: a JPEG without its end" if kind == "JPEG" else "cannot be read"
    for keep in (*range(1, 40), 0.9, 0.99):
        path.write_bytes(data[: int(keep * len(data) / (40 if keep >= 1 else 1))])
        with pytest.raises(ValueError, match=message if len(path.read_bytes()) > 2 else ""):
            read_image(path)
    if kind == "JPEG":  # as a download leaves it, or a stick that was pulled out
        path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
        with pytest.raises(ValueError, match=message):
            read_image(path)


def test_a_whole_jpeg_may_have_a_thumbnail_and_anything_behind_its_end(tmp_path, scene):
    exif = Image.Exif()
    exif[0x010E] = b"thumbnail: " + encoded(scene[:8, :8], "JPEG")  # with an end of its own
    data, path = encoded(scene, "JPEG", exif=exif), tmp_path / "a.jpg"
    second = encoded(scene[::-1].copy(), "JPEG")
    for behind in (b"", bytes(5000), b"\0\0\0\x18ftypmp42" + b"motion" * 99, second, second[:-200]):
        path.write_bytes(data + behind)
        np.testing.assert_allclose(read_image(path).astype(int), scene, atol=60)
    path.write_bytes(data[:-300])
    with pytest.raises(ValueError, match="is cut off"):
        read_image(path)


@pytest.mark.parametrize("turned", [3, 6, 8])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 100}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_pixels_are_read_as_stored_whatever_exif_says(
    tmp_path, scene, kind, options, turned, caplog, monkeypatch
):
    monkeypatch.setattr(image_files, "_reported", [])
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / "a.img"
    path.write_bytes(encoded(scene, kind, **options))
    plain = read_image(path)
    assert (orientation(path), caplog.text) == (1, "")
    for _ in range(2):
        path.write_bytes(encoded(scene, kind, exif=exif, **options))
        np.testing.assert_array_equal(read_image(path), plain)
        np.testing.assert_array_equal(read_stored(path, cv2.IMREAD_UNCHANGED)[..., ::-1], plain)
    assert orientation(path) == turned
    (record,) = caplog.records  # once in a process
    assert f"a.img has the EXIF orientation {turned}, which is ignored" in record.message


@pytest.mark.parametrize(
    ("mode", "most"),
    [("P", 2), ("P", 4), ("P", 12), ("P", 200), ("L", 200), ("1", 2), ("I;16", 12)],
)
def test_label_files_are_read_as_their_ids(tmp_path, mode, most):
    ids = IDS % most
    ids[0, 0] = most - 1
    if mode == "P":
        image = Image.fromarray(ids)
        image.putpalette([(7 * i) % 256 for i in range(3 * most)])
    else:
        image = Image.fromarray({"1": ids > 0, "I;16": ids.astype(np.uint16)}.get(mode, ids))
    assert image.mode == mode
    image.save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))
    labels = read_labels(tmp_path / "a.png")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, ids)


def test_equal_channels_are_ids_and_colours_are_refused(tmp_path):
    path = tmp_path / "a.png"
    opaque = np.full((6, 9), 255, np.uint8)
    for channels in ([IDS] * 3, [IDS, IDS, IDS, opaque]):
        cv2.imwrite(str(path), np.dstack(channels))
        np.testing.assert_array_equal(read_labels(path), IDS)
    for array, message in (
        (np.dstack([IDS, IDS + 1, IDS]), "has 3 channels of colours, expected one channel"),
        (np.dstack([IDS, IDS, IDS, IDS]), "has 4 channels of colours"),
        (IDS.astype(np.uint16) * 1000, "has ids from 0 to 11000 in uint16, expected 0 to 255"),
    ):
        cv2.imwrite(str(path), array)
        with pytest.raises(ValueError, match=rf"a\.png {message}"):
            read_labels(path)


def test_a_folders_images_are_listed_in_any_case_and_the_rest_is_counted(tmp_path, caplog):
    names = ("10.PNG", "2.jpeg", "1.JPG", "3.webp", "4.TIF", "5²6.bmp", "6 with blank.png")
    beside = ("1.labels.png", "1.LABELS.PNG", "2.depth.tif", "2.overlay.png")
    for name in (*names, *beside, "._1.JPG", ".DS_Store", "a.txt", "b.TXT", "c.heic", "README"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    strange = os.fsdecode(b"7\xff.png")
    (tmp_path / strange).symlink_to(tmp_path / "10.PNG")
    assert [path.name for path in list_images(tmp_path)] == [
        "1.JPG", "2.jpeg", "3.webp", "4.TIF", "5²6.bmp", "6 with blank.png", strange, "10.PNG"
    ]  # fmt: skip
    (record,) = caplog.records
    assert record.message.endswith(
        "4 files are left out, not images by their names: 2 .txt, 1 without an ending, 1 .heic"
    )
    caplog.clear()
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "a.png").write_text("")
    assert len(list_images(tmp_path / "clean")) == 1 and not caplog.records


def test_two_files_of_one_stem_are_refused(tmp_path):
    assert by_stem([tmp_path / "a.png", tmp_path / "b.JPG"]).keys() == {"a", "b"}
    with pytest.raises(ValueError, match=r"a\.png and a\.JPG have the same name except"):
        by_stem([tmp_path / "a.png", tmp_path / "a.JPG"])


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("3gp", "mp4v"), ("ts", "mp4v"), ("mts", "mp4v"), ("webm", "VP80"), ("any", "mp4v")],
)
def test_videos_are_told_by_their_content(tmp_path, scene, ending, codec):
    path = tmp_path / f"video.{'mkv' if ending == 'any' else ending}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {ending}")
    for _ in range(12):
        writer.write(scene)
    writer.release()
    assert is_video(path.rename(tmp_path / f"video.{ending}"))
    assert not is_video((tmp_path / f"video.{ending}").rename(tmp_path / "video.png"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"FFmpeg draws this as a terminal would\n" * 99),
        ("cloud.pcd", b"# .PCD v0.7\nDATA binary\n" + bytes(5000)),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)),
        ("lfs.mp4", LFS),
    ],
)
def test_other_files_are_no_videos(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not is_video(tmp_path / name)
    assert not is_video(tmp_path / name, try_it=True) or name == "cloud.pcd"


def test_a_video_that_git_lfs_keeps_elsewhere_is_named(tmp_path):
    (tmp_path / "drive.mp4").write_bytes(LFS)
    for frames in (video_frames(tmp_path / "drive.mp4", False, 1.0),
                   file_frames(tmp_path / "drive.mp4", 1.0)):  # fmt: skip
        with pytest.raises(ValueError, match=r"drive\.mp4 is a pointer of Git LFS"):
            next(frames)
