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

"""What contributors and readers are told holds: links lead somewhere, what is named exists."""

import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "models" / "README.md"])
GITHUB = ROOT / ".github"
FORMS = sorted(p for p in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml")
TOLD = [  # what speaks to contributors
    *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CODE_OF_CONDUCT", "SECURITY")),
    ROOT / ".pre-commit-config.yaml",
    *GITHUB.rglob("*.yml"),
    *GITHUB.glob("*.md"),
]
MAINTAINER = ElementTree.parse(ROOT / "package.xml").find("maintainer")


def read(path):
    return path.read_text(encoding="utf-8")


def name(path):
    return str(path.relative_to(ROOT))


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """What a page's headings are called in links, as GitHub does."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return found


def dead(page):
    """The relative links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))
    lost = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_of_a_page_are_there(page):
    assert dead(page) == []


def test_a_link_to_nowhere_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n[a](#one-two-three) [b](#four) [c](no.md) [d](https://e)\n"
    )
    assert dead(page) == ["#four", "no.md"]


@pytest.mark.parametrize("page", TOLD, ids=name)
def test_files_commands_and_targets_that_contributors_are_told_of_exist(page):
    text = read(page)
    targets = re.search(r"^\.PHONY: (.*)$", read(ROOT / "Makefile"), re.MULTILINE)[1].split()
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    code = [*re.findall(r"`([^`\n]+)`", text), *"".join(blocks).splitlines()]
    assert set(re.findall(r"\bmake (\w+)", "\n".join(code))) <= set(targets)
    main = read(ROOT / "depthseg_ros" / "cli" / "main.py")
    commands = set(re.findall(r'add_parser\(\s*"(\w+)"', main))
    assert set(re.findall(r"\bdepthseg (\w+)", "\n".join(code))) <= commands
    named = [word for span in code for word in re.split(r"[\s,;:]+", span) if looks_like_path(word)]
    assert [word for word in named if not exists(word)] == []


SOURCES = [
    path
    for pattern in (
        "*.py",
        "*.yaml",
        "*.toml",
        "*.txt",
        "*.xml",
        "*.msg",
        "*.srv",
        "Makefile",
        "*.sh",
    )
    for path in ROOT.rglob(pattern)
    if not {".venv", ".ros", "build", "runs"} & {*path.relative_to(ROOT).parts}
]
OTHERS = {"EventsExecutor", "setswitchinterval", "nvpmodel"}  # names of other projects
ABOUT_OTHERS = ("docs/planners.md", "docs/alternatives.md", "docs/extending.md")  # and new files


@pytest.fixture(scope="module")
def words():
    return {word for path in SOURCES for word in re.findall(r"\w+", read(path))} | OTHERS


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) not in ABOUT_OTHERS], ids=name)
def test_names_in_code_font_are_names_of_the_code(page, words):
    """A file, class, parameter or option that was renamed or deleted is so in the pages, too."""
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    named = [span for span in spans if re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", span)]
    files = {path.name for path in SOURCES}
    assert [
        span
        for span in named
        if span not in files
        and not exists(span)
        and not words.issuperset(re.findall(r"\w+", span.removesuffix(".py")))
    ] == []


def looks_like_path(word):
    return re.fullmatch(r"[.\w][\w./-]*", word) and (
        "/" in word or re.search(r"\.(md|rst|txt|py|toml|xml|yaml|yml|onnx)$", word)
    )


def exists(word):
    return bool(list(ROOT.glob(word)) or list(ROOT.glob(f"launch/{word}")))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_has_what_github_asks_for(form):
    content = yaml.safe_load(read(form))
    assert content["name"] and content["description"]
    ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert ids and len(set(ids)) == len(ids)
    for field in content["body"]:
        assert field["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_there_is_a_form_for_bugs_features_and_questions_and_no_blank_one():
    assert [form.stem for form in FORMS] == ["bug", "feature", "question"]
    config = yaml.safe_load(read(GITHUB / "ISSUE_TEMPLATE" / "config.yml"))
    assert config == {"blank_issues_enabled": False}


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load(read(GITHUB / "workflows" / "test.yml"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_the_hooks_are_the_commands_of_make_check():
    (rule,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", read(ROOT / "Makefile"), re.MULTILINE)
    (repo,) = yaml.safe_load(read(ROOT / ".pre-commit-config.yaml"))["repos"]
    hooks = [hook["entry"].removesuffix(" --force-exclude") for hook in repo["hooks"]]
    assert hooks == [line.strip() for line in rule.splitlines()]
    assert (repo["repo"], {hook["language"] for hook in repo["hooks"]}) == ("local", {"system"})


def test_the_citation_has_the_projects_name_licence_and_authors():
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    manifest = ElementTree.parse(ROOT / "package.xml")
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["message"] and citation["abstract"]
    assert citation["title"] == manifest.findtext("name")
    assert citation["license"] == manifest.findtext("license")
    assert citation["authors"] == [{"name": MAINTAINER.text}]
    assert "version" not in citation  # package.xml has it


def test_no_address_is_given_but_package_xmls():
    for page in (*TOLD, ROOT / "CITATION.cff"):
        assert set(re.findall(r"[\w.+-]+@[\w-]+\.[\w.-]+", read(page))) <= {MAINTAINER.get("email")}
    assert "package.xml" in read(ROOT / "SECURITY.md")
    assert "package.xml" in read(ROOT / "CODE_OF_CONDUCT.md")


# --- Containers ---------------------------------------------------------------------------------


def instructions(dockerfile):
    """A Dockerfile's instructions: (name, rest in one line)."""
    text = re.sub(r"^#.*\n", "", read(dockerfile), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_starts_the_launch_file_as_a_user_in_the_workspaces_environment(dockerfile):
    found = dict(instructions(dockerfile))
    assert found["USER"] == "1000"
    shell, option, script, _ = json.loads(found["ENTRYPOINT"])
    assert (shell, option) == ("bash", "-c") and script.endswith('exec "$@"')
    assert f"source {found['WORKDIR']}/install/setup.bash" in script
    ros2, launch, package, file, source = json.loads(found["CMD"])
    assert (ros2, launch, package) == ("ros2", "launch", "depthseg_ros")
    assert (ROOT / "launch" / file).is_file()
    assert f'"{source.split(":=")[0]}"' in read(ROOT / "launch" / file)


def test_images_get_what_make_setup_gives_to_colcon():
    (package,) = re.findall(r"^PACKAGE := (.*)$", read(ROOT / "Makefile"), re.MULTILINE)
    lines = read(ROOT / ".dockerignore").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == set(package.split())


def test_the_development_container_is_a_stage_of_the_desktops_image():
    folder = ROOT / ".devcontainer"
    container = json.loads(read(folder / "devcontainer.json"))
    build = container["build"]
    assert (folder / build["context"]).resolve() == ROOT
    stages = [rest for name, rest in instructions(folder / build["dockerfile"]) if name == "FROM"]
    assert any(stage.endswith(f" AS {build['target']}") for stage in stages)
    assert shlex.split(container["postCreateCommand"]) == ["make", "setup"]
