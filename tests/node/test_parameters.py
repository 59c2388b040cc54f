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

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from depthseg_ros.model_card import ModelCard, SemanticClass
from depthseg_ros.node.parameters import Settings

LONG = "x" * 10**6
CARD = ModelCard(
    name="test",
    system="test",
    classes=tuple(SemanticClass(i, f"{i:03}" + 97 * "n", (0, 0, 0)) for i in range(255)),
    depth=None,
    network_size=(64, 48),
)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cameras": (LONG,)}, "cameras has 'xxx.*, expected namespaces"),
        ({"cameras": ("a" * 101,)}, "of at most 100 characters"),
        ({"cameras": ("front\n",)}, "cameras has 'front', expected namespaces"),
        ({"cameras": ("a" * 99,) * 999}, "cameras contains a namespace twice: aaa"),
        ({"cameras": ("a", "b"), "background": "a.png"}, "image of one camera's view; with sev"),
        ({"batch": True, "engine": "a.engine"}, "batch needs one engine for a single im"),
        ({"backend": LONG}, "backend is 'xxx.*, expected one of auto"),
        ({"ground": "fit\nor not"}, "ground is 'fit or not', expected one of"),
        ({"obstacle_heights": (1.0,) * 10**5}, "obstacle_heights is .*, expected two heights"),
        ({"cut_classes": (LONG,)}, "cut_classes has xxx.*, expected classes of test: 000n"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_whatever_its_length(values, says):
    with pytest.raises(ValueError, match=says) as error:
        Settings(**values).check(CARD)
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 500
