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

from benchmarks.fuzz import put, table

BEGIN, END = "<!-- begin: make fuzz -->", "<!-- end: make fuzz -->"

RESULTS = [
    {"what": "Image", "tried": 8000, "refused": 7000, "crashes": 0, "growth_mb": 0.1},
    {"what": "bag", "tried": 400, "refused": 1, "crashes": 2, "growth_mb": 0.0},
]


def test_the_table_replaces_its_own_section_alone():
    document = f"# Title\n{BEGIN}\nold\n{END}\n## Another\n"
    once = put(document, "fuzz", table(RESULTS))
    assert once.startswith(f"# Title\n{BEGIN}\n| ") and once.endswith(f"|\n{END}\n## Another\n")
    assert "| Image | 8000 | 7000 | 0 | 0.1 |" in once and "old" not in once
    assert "| all | 8400 | 7001 | 2 |" in once
    assert put(once, "fuzz", table(RESULTS)) == once


def test_a_document_without_the_section_is_refused():
    with pytest.raises(ValueError, match="lacks the lines"):
        put(f"# Title\n{BEGIN}\n", "fuzz", table(RESULTS))
