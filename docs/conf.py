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

"""Sphinx's configuration: `make docs`."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the built package, which has the messages, comes first

project = "depthseg_ros"
author = "the maintainers of depthseg_ros"
project_copyright = author
release = version = str(ElementTree.parse(ROOT / "package.xml").getroot().findtext("version"))

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
source_suffix = [".md"]
exclude_patterns = ["build"]
smartquotes = False  # [''] and --output are code, wherever they stand
html_theme = "furo"
html_title = f"depthseg_ros {release}"
html_copy_source = False
napoleon_use_ivar = True  # not a second description of each attribute
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints_format = "short"

# Files above docs/ that are pages of the site, too: there -> here.
PAGES = {
    "../models/README.md": "models.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../SECURITY.md": "security_policy.md",
    "../CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "../QUALITY_DECLARATION.md": "quality.md",
    "../README.md": "index.md",
}


def links(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links that hold in the repository hold in the site."""
    page = Path(str(app.srcdir), f"{name}.md")
    text = source[0]
    for included in PAGES:
        block = f"```{{include}} {included}\n```"
        if block in text:  # its links start from where it lies
            file = (page.parent / included).resolve()

            def moved(found: re.Match[str], folder: Path = file.parent) -> str:
                return f"]({_relative(folder / found[1])}"

            content = file.read_text(encoding="utf-8")
            text = text.replace(block, re.sub(r"\]\((?!https?:|#)([^)#]+)", moved, content))
    up = "../" * (len(Path(name).parents) - 1)
    for included, target in PAGES.items():
        text = text.replace(f"]({up}{included}", f"]({up}{target}")
    source[0] = text


def _relative(file: Path) -> str:
    """A file of the repository, as pages of the site's top folder link to it."""
    file = file.resolve()
    docs = ROOT / "docs"
    return str(
        file.relative_to(docs) if file.is_relative_to(docs) else Path("..", file.relative_to(ROOT))
    )


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.connect("source-read", links)
