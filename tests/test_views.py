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

"""Views, planners' files and recipes parse, and name only topics that the reference promises."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
REFERENCE = (ROOT / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
TOPICS = {"/image", "/camera_info", "/diagnostics"} | {
    f"/depthseg/{name}" for name in re.findall(r"^\| `~/([\w/]+)`", REFERENCE, re.MULTILINE)
}
RVIZ = yaml.safe_load((CONFIG / "depthseg.rviz").read_text(encoding="utf-8"))
FOXGLOVE = json.loads((CONFIG / "foxglove_layout.json").read_text(encoding="utf-8"))


def texts(tree) -> Iterator[str]:
    """All texts of a parsed file, keys included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree


def topics(name: str) -> set[str]:
    """What begins like a topic in a file, without fields of messages."""
    tree = yaml.safe_load((CONFIG / name).read_text(encoding="utf-8"))  # JSON is YAML, too
    # RViz' paths of its own tree, and the name under which ROS files a node's parameters.
    own = {"/Overlay1", "/**"}
    return {text.split(".")[0] for text in texts(tree) if text.startswith("/")} - own


@pytest.mark.parametrize("name", ["depthseg.rviz", "foxglove_layout.json", "nav2_costmap.yaml"])
def test_only_topics_of_the_node_are_named(name):
    assert topics(name)
    assert topics(name) <= TOPICS


def test_the_recipes_name_only_topics_of_the_node():
    recipes = (ROOT / "docs" / "planners.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", recipes, re.DOTALL):
        assert all("plugin" in layer for layer in yaml.safe_load(block).values())
    # For several cameras, and what depth_image_proc looks for beside the overlay.
    not_topics = {"/depthseg/CAMERA/points", "/depthseg/label/camera_info"}
    named = set(re.findall(r"/depthseg/\w[\w/]*", recipes)) - not_topics
    assert named and named <= TOPICS
    outputs = {f"/depthseg/{name}" for name in re.findall(r"`~/(\w[\w/]*)`", recipes)}
    assert outputs and outputs <= TOPICS


def test_rviz_shows_picture_overlay_depth_points_and_scan():
    displays = RVIZ["Visualization Manager"]["Displays"]
    shown = {d["Topic"]["Value"]: d for d in displays if d["Enabled"] and "Topic" in d}
    assert {
        topic: display["Class"].removeprefix("rviz_default_plugins/")
        for topic, display in shown.items()
    } == {
        "/image": "Image",
        "/depthseg/label/overlay": "Image",
        "/depthseg/depth/image": "Image",
        "/depthseg/points": "PointCloud2",
        "/depthseg/scan": "LaserScan",
    }
    assert shown["/depthseg/points"]["Color Transformer"] == "RGB8"
    # The outputs are reliable; of a camera that is not certain.
    best_effort = {t for t, d in shown.items() if d["Topic"]["Reliability Policy"] != "Reliable"}
    assert best_effort == {"/image"}
    assert len({display["Name"] for display in displays}) == len(displays)


def test_foxglove_shows_each_of_its_panels_once():
    def panels(tree) -> list[str]:
        if isinstance(tree, str):
            return [tree]
        assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
        return panels(tree["first"]) + panels(tree["second"])

    shown = panels(FOXGLOVE["layout"])
    assert sorted(shown) == sorted(FOXGLOVE["configById"])
    kinds = sorted(panel.split("!")[0] for panel in shown)
    assert kinds == ["3D", "DiagnosticSummary", "Image", "Image", "Table"]


def test_foxglove_shows_overlay_depth_points_scan_distances_and_diagnostics():
    assert topics("foxglove_layout.json") == {
        "/depthseg/label/overlay",
        "/depthseg/depth/image",
        "/depthseg/points",
        "/depthseg/scan",
        "/depthseg/class_distances",
        "/diagnostics",
    }
