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

"""What ROS's own linters and release tools ask of a package."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
XML = [ROOT / "package.xml", *sorted((ROOT / "config").glob("*.xml"))]

# As CMakeLists.txt has them called. ament_xmllint is left to colcon: it fetches its schemas.
LINTERS = {
    "ament_copyright": [],
    "ament_flake8": ["--config", ".flake8"],
    "ament_lint_cmake": ["CMakeLists.txt"],
    "ament_pep257": re.search(r"ament_pep257\((.*)\)", CMAKE).group(1).split(),
}


@pytest.mark.parametrize("linter", LINTERS)
def test_the_linter_has_nothing_to_say(linter, monkeypatch, capsys):
    module = pytest.importorskip(f"{linter}.main", reason="comes with an installed ROS 2")
    monkeypatch.chdir(ROOT)
    assert module.main(LINTERS[linter]) == 0, capsys.readouterr()


def test_colcon_runs_every_linter_that_package_xml_names():
    named = {e.text for e in ElementTree.parse(XML[0]).iter("test_depend") if "ament" in e.text}
    assert named == {"ament_lint_auto"} | {
        f"ament_cmake_{name}" for name in ("copyright", "flake8", "lint_cmake", "pep257", "xmllint")
    }
    assert "ament_lint_auto_find_test_dependencies()" in CMAKE
    assert "set(AMENT_LINT_AUTO_EXCLUDE ament_cmake_pep257)" in CMAKE  # called by hand


def test_every_source_has_the_licences_notice_on_top():
    """The one that this file has; `ament_copyright --add-missing` writes it, too."""
    notice = Path(__file__).read_text(encoding="utf-8").split('"""')[0]
    folders = ("benchmarks", "depthseg_ros", "examples", "launch", "tests", "tools", "training")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(notice.splitlines()) == 14 and len(paths) > 100
    without = [path for path in paths if notice.strip() not in path.read_text(encoding="utf-8")]
    assert without == []


@pytest.mark.parametrize("path", XML, ids=lambda path: path.name)
def test_xml_is_well_formed(path):
    ElementTree.parse(path)


def test_package_xml_is_complete_and_without_a_warning():
    package = pytest.importorskip("catkin_pkg.package")
    manifest, warnings = package.parse_package(str(XML[0])), []
    manifest.validate(warnings=warnings)
    assert warnings == []
    assert manifest.authors and manifest.maintainers and manifest.licenses[0].file == "LICENSE"


def test_the_changelog_is_parsed_as_a_release_would_have_it(tmp_path):
    changelog = pytest.importorskip("catkin_pkg.changelog")
    text = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    heading = "1.2.3 (2030-01-01)"  # what catkin_prepare_release puts in place of Forthcoming
    text = re.sub(
        r"^Forthcoming\n-+$", f"{heading}\n{'-' * len(heading)}", text, flags=re.MULTILINE
    )
    path = tmp_path / "CHANGELOG.rst"
    path.write_text(text, encoding="utf-8")
    parsed = changelog.get_changelog_from_path(str(path), "depthseg_ros")
    _, _, content = next(iter(parsed.foreach_version()))
    bullets = [bullet for block in content for bullet in getattr(block, "bullets", ())]
    assert len(bullets) == len(re.findall(r"^\* ", text.split(heading)[1], re.MULTILINE))
