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

"""The table that `make faults` writes."""

from benchmarks.faults import table

RESULTS = """<testsuites><testsuite>
<testcase name="test_a_camera_dies"><properties>
  <property name="recovered" value="0.52"/></properties></testcase>
<testcase name="test_a_runtime_fails[raise]"><failure message="no"/></testcase>
<testcase name="test_rounds"><properties>
  <property name="growth" value="0.004"/></properties></testcase>
</testsuite></testsuites>"""


def test_a_row_says_what_a_test_showed():
    assert table(RESULTS).splitlines()[2:] == [
        "| a camera dies | yes | 0.5 |  |",
        "| a runtime fails: raise | no |  |  |",
        "| rounds | yes |  | 0.40 |",
    ]
