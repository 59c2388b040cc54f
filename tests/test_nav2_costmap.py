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

"""config/nav2_costmap.yaml tells Nav2 of the default model's classes what the model file says."""

from pathlib import Path

import pytest
import yaml

from depthseg_ros import model_card

ROOT = Path(__file__).resolve().parent.parent
LETHAL = 254
CLASSES = model_card.read(model_card.default_model()).classes
DOUBLES = {"max_obstacle_distance", "min_obstacle_distance", "tile_map_decay_time"}
COSTS = {"base_cost", "max_cost", "mark_confidence", "samples_to_max_cost"}


@pytest.fixture(scope="module")
def costmap() -> dict:
    """The parameters of the costmap."""
    nodes = yaml.safe_load((ROOT / "config" / "nav2_costmap.yaml").read_text(encoding="utf-8"))
    return nodes["/**"]["local_costmap"]["ros__parameters"]


@pytest.fixture(scope="module")
def camera(costmap) -> dict:
    """What the layer is told of the camera."""
    layer = costmap["semantic_segmentation_layer"]
    assert layer["observation_sources"] == "camera"
    return layer["camera"]


@pytest.fixture(scope="module")
def types(camera) -> dict[str, dict]:
    """The types of classes, by name."""
    assert set(camera["class_types"]) == {
        name for name, value in camera.items() if isinstance(value, dict)
    }
    return {name: camera[name] for name in camera["class_types"]}


def kind(given: dict) -> str:
    """What a type's costs make of its classes."""
    if given["max_cost"] == LETHAL:
        return "movable" if given["dominant_priority"] else "obstacle"
    return "traversable" if given["max_cost"] == 0 else "costly"


@pytest.mark.parametrize("semantic_class", CLASSES, ids=lambda c: c.name)
def test_a_class_costs_what_its_flags_say(types, semantic_class):
    found = [kind(t) for t in types.values() if semantic_class.name in t["classes"]]
    flags = set(semantic_class.flags)
    if "sky" in flags:
        assert found == []
    elif "obstacle" in flags:
        assert found == ["movable" if "movable" in flags else "obstacle"]
    else:
        assert found == ["traversable" if "traversable" in flags else "costly"]


def test_no_class_is_unknown_or_given_twice(types):
    named = [name for given in types.values() for name in given["classes"]]
    assert sorted(named) == sorted({c.name for c in CLASSES if "sky" not in c.flags})


def test_costs_are_what_the_layer_can_read(camera, types):
    # It takes integers of 8 bits for costs, and doubles for the rest: ROS refuses to mix them.
    for given in types.values():
        assert set(given) == COSTS | {"classes", "dominant_priority"}
        assert all(type(given[name]) is int and 0 <= given[name] <= 255 for name in COSTS)
        assert 0 <= given["base_cost"] <= given["max_cost"] <= LETHAL
    assert all(type(camera[name]) is float for name in DOUBLES)


def test_labels_confidence_and_points_are_of_one_size_and_stamp(costmap, camera):
    # That of label/image is the picture's, which only points_step 1 gives to the points too.
    assert camera["segmentation_topic"] == "/depthseg/points/label"
    assert camera["confidence_topic"] == "/depthseg/points/confidence"
    assert camera["pointcloud_topic"] == "/depthseg/points"
    assert camera["labels_topic"] == "/depthseg/label/info"
    assert costmap["semantic_segmentation_layer"]["use_approximate_time_sync"] is False


def test_the_scan_marks_at_all_heights_and_never_where_it_saw_nothing(costmap):
    layer, farthest = costmap["obstacle_layer"], model_card.read(model_card.default_model()).depth
    scan = layer[layer["observation_sources"]]
    assert (scan["topic"], scan["data_type"]) == ("/depthseg/scan", "LaserScan")
    for limits in (layer, scan):  # of a source, Nav2's own default is 0, which leaves all out
        assert limits["min_obstacle_height"] < -10 and limits["max_obstacle_height"] > 10
    # Where it saw none, Nav2 puts one at the scan's range_max, to clear the way there.
    assert scan["inf_is_valid"]
    assert scan["obstacle_max_range"] < scan["raytrace_max_range"] < farthest.max


def test_every_layer_that_is_listed_is_told_of(costmap):
    layers = {name for name, value in costmap.items() if isinstance(value, dict)}
    assert layers - set(costmap["plugins"]) == {"voxel_layer"}  # for the plugins of nav2.launch.py
    assert set(costmap["plugins"]) <= layers
    assert all("plugin" in costmap[name] for name in layers)


def test_points_of_the_road_clear_voxels_and_do_not_mark(costmap):
    layer = costmap["voxel_layer"]
    mark, clear = (layer[name] for name in layer["observation_sources"].split())
    assert mark["marking"] and not mark["clearing"] and mark["min_obstacle_height"] > 0.2
    assert clear["clearing"] and not clear["marking"] and clear["min_obstacle_height"] < 0
    assert mark["topic"] == clear["topic"] == "/depthseg/points"
    assert mark["obstacle_max_range"] < clear["raytrace_max_range"]
