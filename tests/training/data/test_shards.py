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

import gzip
import tarfile

import numpy as np
import pytest

from training.data.shards import (
    Shard,
    ShardWriter,
    complete_shards,
    depth_to_png,
    to_png,
    write_json,
)
from training.errors import TrainingError

FILES = {"jpg": b"picture", "depth.png": bytes(1000)}


def write(folder, name="part-00000", packed=False, keys=("a", "b"), **more):
    writer = ShardWriter(folder, name, packed)
    for key in keys:
        writer.add({"key": key}, FILES)
    part = writer.finish(**more)
    writer.close()
    return part


@pytest.mark.parametrize("packed", [False, True])
def test_a_part_gives_back_what_was_written(packed, tmp_path):
    part = write(tmp_path / "new", packed=packed, recording="000", until=5)
    (read,) = complete_shards(tmp_path / "new")
    for found in (part, read):
        assert found.keys == ["a", "b"] and found.packed == packed
        assert found.about == {"recording": "000", "until": 5}
        assert found.read("b", "jpg") == b"picture" and found.read("a", "depth.png") == bytes(1000)
        assert found.read("a", "json") == b'{"key": "a"}'
        assert found.read("a", "png") is None and found.read("c", "jpg") is None
        assert found.has("a", "jpg") and not found.has("a", "png")


def test_tar_files_have_the_members_that_webdataset_groups(tmp_path):
    write(tmp_path, packed=True)
    with tarfile.open(tmp_path / "part-00000.tar") as tar:
        names = tar.getnames()
    assert names == ["a.jpg", "a.depth.png", "a.json", "b.jpg", "b.depth.png", "b.json"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_part_that_is_not_finished_does_not_exist_and_leaves_nothing(packed, tmp_path):
    writer = ShardWriter(tmp_path, "part-00000", packed)
    writer.add({"key": "a"}, FILES)
    assert complete_shards(tmp_path) == []
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_killed_run_left_is_replaced(before, packed, tmp_path):
    ShardWriter(tmp_path, "part-00000", before).add({"key": "old"}, FILES)
    (tmp_path / "part-00000.tar").write_bytes(b"old")
    part = write(tmp_path, packed=packed)
    assert part.packed == packed and part.read("a", "jpg") == b"picture"
    assert part.read("old", "jpg") is None
    kept = {"part-00000.json", "part-00000.tar" if packed else "part-00000"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_parts_are_in_the_order_of_their_names(tmp_path):
    for number in (2, 0, 10):
        write(tmp_path, f"part-{number:05}")
    write_json(tmp_path / "card.json", {})
    assert [part.name[-2:] for part in complete_shards(tmp_path)] == ["00", "02", "10"]


@pytest.mark.parametrize("index", ["", "[]", '{"frames": 3}', '{"frames": [{}]}', "{}"])
def test_a_damaged_index_is_named(index, tmp_path):
    path = tmp_path / "part-00000.json"
    path.write_text(index)
    with pytest.raises(TrainingError, match=r"part-00000\.json is not a valid shard.*remove it"):
        Shard(path)


@pytest.mark.parametrize("key", ["../a", "/tmp/a", "a/b", ""])
def test_a_key_that_leaves_the_part_is_refused(key, tmp_path):
    path = tmp_path / "part-00000.json"
    write_json(path, {"frames": [{"key": key}]})
    with pytest.raises(TrainingError, match=r"part-00000\.json is not .*is not a file name"):
        Shard(path)


def test_a_compressed_tar_file_is_not_unpacked(tmp_path):
    part = write(tmp_path, packed=True)
    path = tmp_path / "part-00000.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(TrainingError, match="cannot be read"):
        part.has("a", "jpg")


def test_a_damaged_tar_file_is_named(tmp_path):
    part = write(tmp_path, packed=True)
    (tmp_path / "part-00000.tar").write_bytes(b"x" * 1000)
    with pytest.raises(TrainingError, match="cannot be read"):
        part.read("a", "jpg")
    with pytest.raises(TrainingError, match="cannot be read"):
        part.has("a", "jpg")


def test_a_json_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_depth_is_stored_in_256ths_of_a_metre(tmp_path):
    import cv2

    depth = np.float32([[1.5, np.nan, np.inf], [-1, 255.99, 256.5]])
    stored = cv2.imdecode(np.frombuffer(depth_to_png(depth), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, [[384, 0, 0], [0, 65533, 0]])
    assert stored.dtype == np.uint16 and to_png(stored) == depth_to_png(depth)
