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

"""Generates the parts of the documentation that follow from the code.

That is docs/reference, config/depthseg.yaml and the diagram of the layout, docs/images/layout.svg.

tools/env.sh python docs/generate.py             as `make docs` does
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for `training`; the built package, which has the messages, comes first
NOTE = "<!-- Written by docs/generate.py, from the code. -->"


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table, the first row its head."""
    rows = (rows[0], ("---",) * len(rows[0]), *rows[1:])
    lines = (" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows)
    return "".join(f"| {line} |\n" for line in lines)


def page(title: str, *parts: str) -> str:
    """A page of Markdown."""
    return "\n\n".join([f"# {title}\n{NOTE}", *(part.strip() for part in parts)]) + "\n"


# --- Topics -------------------------------------------------------------------------------------


def topics() -> str:
    """What the nodes subscribe to, publish and serve."""
    from depthseg_ros.node.outputs import OUTPUTS

    def of(kind: type) -> str:
        return f"{kind.__module__.split('.')[0]}/{kind.__name__}"

    outputs = [(f"`~/{name}`", of(o.kind), o.about) for name, o in sorted(OUTPUTS.items())]
    return page(
        "Topics and services",
        "`~` is the node's own name, by default `/depthseg`. All outputs carry the camera image's"
        " stamp and frame, unchanged; only the scan has its own frame. Outputs without subscribers"
        " are not computed. The package's own types are described in [messages](messages.md).",
        "## Node `depthseg`: in",
        table(("topic", "type", ""), *_INPUTS),
        "The QoS of the subscriptions follows the publishers: reliable if all publishers of the"
        " topic are reliable, otherwise best effort, with depth 5. The subscription to"
        " `camera_info` is transient local (latched) if all its publishers are. It changes when"
        " the publishers change. A [QoS"
        " override](https://docs.ros.org/en/jazzy/Concepts/Intermediate/About-Quality-of-Service-Settings.html),"
        " such as `qos_overrides./image.subscription.reliability: best_effort` for a slow network,"
        " takes precedence."
        " The node only keeps the newest frame of each camera. The middleware counts images that"
        " are lost before they arrive (`frames lost` in diagnostics). If more than a tenth are"
        " lost, the log and diagnostics report this and what to do.",
        "While nobody publishes `camera_info`, the node uses the `camera_info` next to the image"
        " topic (`/cam/color/camera_info` for `/cam/color/image_raw`) and logs this. With"
        " `image_transport: compressed`, it uses a CompressedImage on `image` itself if nobody"
        " publishes `image/compressed`.",
        "## Node `depthseg`: out",
        table(("topic", "type", ""), *outputs, *_OTHERS),
        "The publishers are reliable, with depth 5; best-effort subscribers receive them, too. [QoS"
        " overrides](https://docs.ros.org/en/jazzy/Concepts/Intermediate/About-Quality-of-Service-Settings.html)"
        " are possible for all topics of a camera except `label/info`.",
        "With `cameras: [front, rear]`, the topics are `front/image`, `~/front/label/image` and so"
        " on. Each camera has its own stamps, camera_info, background and diagnostics. The node"
        " processes the cameras in turn.",
        "## Node `depthseg`: services",
        table(("service", "type", ""), *_SERVICES),
        "The node also has the services of every lifecycle node (`~/change_state`, `~/get_state`"
        " ...) and of parameters.",
        "## Node `camera`, a substitute for a camera driver: out",
        table(("topic", "type", ""), *_CAMERA),
        "With `cmd_vel_timeout`, the node subscribes to velocities:",
        table(
            ("topic", "type", ""),
            (
                "`cmd_vel`",
                "geometry_msgs/Twist",
                "linear.x and angular.z move the street's camera; the others are ignored",
            ),
        ),
    )


_INPUTS = (
    (
        "`image`",
        "sensor_msgs/Image",
        "rgb8, bgr8, rgba8, bgra8, mono8, bayer_\\*8, and the same with 16 bits; 8UC1, 8UC3, 8UC4,"
        " 16UC3, 16UC4; uyvy (yuv422), yuyv (yuv422_yuy2); nv12, nv21, nv24, i420 (yuv420), yv12."
        " Padded rows and big-endian samples are supported",
    ),
    (
        "`image/compressed`",
        "sensor_msgs/CompressedImage",
        "with `image_transport: compressed`, instead of `image`: JPEG or PNG, also of a Bayer"
        " mosaic",
    ),
    (
        "`camera_info`",
        "sensor_msgs/CameraInfo",
        "focal length and lens model (plumb_bob, rational_polynomial with thin prism and tilt,"
        " equidistant, and the names of Kalibr and OAK for them): the image need not be rectified."
        " If the image topic's name begins with `image_rect`, the image is treated as rectified: P"
        " is used, without distortion. Otherwise K and D are used, or P without distortion if K is"
        " zero. An unknown lens model is treated as a pinhole. roi and binning are applied. The"
        " image can have another size with the same aspect ratio. If the aspect ratio differs, or"
        " the camera is not calibrated, `default_fov` is assumed. Each of these assumptions is"
        " logged once and shown in the diagnostics",
    ),
)
_OTHERS = (
    (
        "`~/label/info`",
        "vision_msgs/LabelInfo",
        "names of the class ids, latched (transient local); only if vision_msgs is installed",
    ),
    (
        "`/diagnostics`",
        "diagnostic_msgs/DiagnosticArray",
        "once a second, per camera: rates, backend, precision and GPU memory; frames received,"
        " processed, dropped, rejected, lost; time of each stage; age of results; problems, and"
        " what to do",
    ),
)
_SERVICES = (
    (
        "`~/load_model`",
        "depthseg_ros/LoadModel",
        "load another model or backend while the node runs; the old one is used until then",
    ),
    (
        "`~/capture_background`",
        "std_srvs/Trigger",
        "for models that need a background image: computes the median of the next"
        " `background_frames` frames, then responds, or responds with the reason for a failure."
        " With several `cameras`, it captures a background for each",
    ),
)
_CAMERA = (
    ("`image`", "sensor_msgs/Image", "rgb8 for the rendered street, otherwise bgr8"),
    (
        "`camera_info`",
        "sensor_msgs/CameraInfo",
        "exact for the rendered street, otherwise estimated from `fov`",
    ),
    ("`truth/label/image`", "sensor_msgs/Image", "only for the street: mono8 class ids"),
    ("`truth/depth/image`", "sensor_msgs/Image", "only for the street: 32FC1 m, NaN in the sky"),
    (
        "`odom`",
        "nav_msgs/Odometry",
        "only for the street, with `odom_frame_id`: the true pose and velocity, with the image's"
        " stamp",
    ),
    (
        "`/tf`",
        "tf2_msgs/TFMessage",
        "the same as a transform from `odom_frame_id` to `base_frame_id`; needs tf2_msgs",
    ),
    ("`/tf_static`", "tf2_msgs/TFMessage", "from `base_frame_id` to `frame_id`, latched"),
)


# --- Parameters ---------------------------------------------------------------------------------


def parameters() -> str:
    """Both nodes' parameters."""
    from depthseg_ros.node.camera_node import CameraSettings
    from depthseg_ros.node.parameters import Settings

    return page(
        "Parameters",
        "`ros2 param describe` shows the same descriptions. The launch files read"
        " [config/depthseg.yaml](../../config/depthseg.yaml), which lists all parameters with"
        " their defaults. Integers are accepted for doubles. An invalid value is refused with the"
        " reason, and the old value stays.",
        "## Node `depthseg`",
        "**Fixed** parameters take effect when the node is configured; change them while it is"
        " unconfigured. You can change all others while the node runs, except `autostart`. A"
        " captured background is kept until the node is cleaned up.",
        _parameters(Settings),
        "## Node `camera`, a substitute for a camera driver",
        "Set all parameters at the start. Each rendered street has its own camera. With `fov`,"
        " `camera_height`, `camera_pitch`, `gains` and `gamma` you replace it by another camera,"
        " which the model was not trained for.",
        _parameters(CameraSettings),
    )


def _parameters(kind: type) -> str:
    from depthseg_ros.node.settings import about

    rows = []
    for entry in fields(kind):
        described = about(entry)
        rules = []
        if described.within:
            rules.append("{} to {}".format(*map(_short, described.within)))
        rules += [f"`{choice}`" for choice in described.choices]
        text = described.description + (
            f" {described.constraints}" if described.constraints else ""
        )
        text = text.replace("*", r"\*")
        fixed = "**Fixed.** " if described.fixed else ""
        default = f"`{_yaml(entry.default)}`"
        rows.append((f"`{entry.name}`", default, ", ".join(rules), fixed + text))
    return table(("parameter", "default", "values", ""), *rows)


def configuration() -> str:
    """config/depthseg.yaml."""
    from depthseg_ros.node.camera_node import CameraSettings
    from depthseg_ros.node.parameters import Settings

    return (
        "# Parameters of the nodes that camera.launch.py starts, with their defaults. Classes,"
        " colours,\n# depth range and input of the model are not here: they are in the model file."
        "\n# Written by docs/generate.py, from the code.\n"
        "/**:\n"
        "  depthseg:\n    ros__parameters:\n"
        f"{_comment(_QOS)}"
        "      #   qos_overrides./image.subscription.reliability: best_effort\n"
        f"{_configured(Settings)}\n"
        "  # The substitute for a camera driver (if source is not 'none').\n"
        "  camera:\n    ros__parameters:\n"
        f"{_configured(CameraSettings)}"
    )


def _configured(kind: type) -> str:
    from depthseg_ros.node.settings import about

    lines, fixed = [], False
    for entry in fields(kind):
        described = about(entry)
        if described.fixed != fixed:
            fixed = described.fixed
            lines.append(_FIXED if fixed else _FREE)
        words = [described.description]
        words += (
            ["From {} to {}.".format(*map(_short, described.within))] if described.within else []
        )
        words += [f"One of {', '.join(described.choices)}."] if described.choices else []
        lines.append(_comment(" ".join([*words, described.constraints]).strip()))
        # ros2 launch gives `source` by its argument alone.
        hidden = "# " if entry.name == "source" else ""
        lines.append(f"      {hidden}{entry.name}: {_yaml(entry.default)}\n")
    return "".join(lines)


_QOS = (
    "Any topic of a camera accepts QoS overrides. Without them, the node's subscriptions are"
    " reliable if all publishers of the topic are, otherwise best effort. For a slow network, use:"
)
_FIXED = "\n      # --- Cannot be changed while the node is configured.\n"
_FREE = "\n      # --- Can be changed while the node runs.\n"


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _comment(text: str) -> str:
    indent = "      # "
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent) + "\n"


def _yaml(value: Any) -> str:
    """A default as YAML: numbers that are to be floats have a point."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]" if value else '[""]'
    if isinstance(value, bool):
        return str(value).lower()
    return value or '""' if isinstance(value, str) else repr(value)


# --- Messages -----------------------------------------------------------------------------------


def messages() -> str:
    """The package's own messages and services, by the comments in their files."""
    parts = []
    for path in (*sorted((ROOT / "msg").iterdir()), *sorted((ROOT / "srv").iterdir())):
        head, *halves = _definition(path)
        parts += [f"## depthseg_ros/{path.stem}", head]
        for title, half in zip(("", "Response:"), halves, strict=False):
            parts += (
                [title, table(("field", "type", ""), *half)]
                if title
                else [table(("field", "type", ""), *half)]
            )
    return page("Messages", *parts)


def _definition(path: Path) -> Iterator[Any]:
    """Yield the head comment of a .msg or .srv file, then the fields of each half."""
    comment: list[str] = []
    head, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            comment.append(line[1:])
        elif line == "---":
            yield found
            found = []
        elif line:
            kind, name = line.split()
            found.append((f"`{name}`", f"`{kind}`", _flat(comment)))
            comment = []
        elif comment and not head:
            head, comment = _flat(comment), []
            yield head
    yield found


def _flat(comment: list[str]) -> str:
    """A comment as one paragraph; lines that are set in become a list of code and meaning."""
    words = [re.sub(r"^   (\S+) {2,}", r"<br>`\1`: ", line).strip() for line in comment]
    return " ".join(words)


# --- Launch files -------------------------------------------------------------------------------


_NEEDS_LAUNCH = (
    "<!-- not run: launch is not on PyPI; where it is, tests/ros/test_launch.py runs -->"
)


def launch() -> str:
    """Every launch file's arguments, read and not run: `launch` is not on PyPI."""
    parts = []
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        text = cleandoc(ast.get_docstring(tree) or "")
        about, _, rest = text.partition("\n\n")
        commands, _, more = rest.partition("\n\n")
        rows = [
            (f"`{name}`", f"`{default}`" if default else "", description)
            for name, (default, description) in _arguments(tree).items()
        ]
        parts += [f"## {path.name}", about, f"{_NEEDS_LAUNCH}\n```\n{commands}\n```"]
        parts += [more] if more else []
        parts.append(table(("argument", "default", ""), *rows))
    return page(
        "Launch files",
        "`ros2 launch depthseg_ros FILE --show-args` prints the same descriptions.",
        *parts,
    )


def _arguments(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Of `ARGUMENTS = {name: (default, description)}` what is in it."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ARGUMENTS":
            given = node.value
            assert isinstance(given, ast.Dict)
            for key, value in zip(given.keys, given.values, strict=True):
                default, description = value.elts  # type: ignore[attr-defined]
                texts = [n.value for n in ast.walk(default) if isinstance(n, ast.Constant)]
                shown = texts[0] if isinstance(default, ast.Constant) else f"config/{texts[-1]}"
                found[ast.literal_eval(key)] = (shown, ast.literal_eval(description))  # type: ignore[arg-type]
    return found


# --- Command lines ------------------------------------------------------------------------------


class _Found(Exception):
    """Carries a parser out of the program that made it."""


def _parser(main: Callable[[list[str]], Any]) -> argparse.ArgumentParser:
    """The parser that a program makes for itself."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", caught):
        try:
            main([])
        except _Found as found:
            return found.args[0]  # type: ignore[no-any-return]
    raise RuntimeError(f"{main} parses no command line")


def command_line() -> str:
    """`depthseg` and `python -m training`, by their own parsers."""
    from depthseg_ros.cli import main as cli
    from training.__main__ import COMMANDS
    from training.__main__ import __doc__ as trainer

    whole = _parser(cli.main)
    (commands,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    helps = {a.dest: a.help or "" for a in commands._choices_actions}
    parts = ["## depthseg", _sentence(whole.description or "")]
    for name, parser in commands.choices.items():
        about = parser.description or _sentence(helps[name])
        parts += [f"### depthseg {name}", about, _options(parser)]
    parts += ["## python -m training", f"```text\n{cleandoc(trainer or '')}\n```"]
    for name, module in COMMANDS.items():
        parser = _parser(import_module(f"training.cli.{module}").main)
        about = cleandoc(parser.description or "")
        parts += [f"### python -m training {name}", about, _options(parser)]
    return page("Command line", *parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _options(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
        value = " ".join(value) if isinstance(value, tuple) else value
        if action.choices and not action.metavar:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        name = ", ".join(f"{option} {value}".strip() for option in action.option_strings) or value
        default = action.default
        known = default not in (None, False, "", [], argparse.SUPPRESS)
        text = parser._get_formatter()._expand_help(action) if action.help else ""
        text = text.replace("*", r"\*")
        if known and action.nargs != 0 and "default" not in text:
            text = f"{text} (default: {_plain(default)})".strip()
        needed = "**Required.** " if action.option_strings and action.required else ""
        rows.append((f"`{name}`", needed + text))
    return table(("argument", ""), *rows) if rows else ""


def _plain(default: Any) -> str:
    if isinstance(default, Path) and default.is_absolute():  # of this machine
        return f".../{default.name}"
    if isinstance(default, list | tuple):
        return " ".join(map(str, default))
    return str(default)


# --- The model file -----------------------------------------------------------------------------


def model_card() -> str:
    """The card's entries, by the docstrings of the dataclasses that read and check it."""
    from depthseg_ros import model_card as card

    tree = ast.parse(Path(card.__file__).read_text(encoding="utf-8"))
    parts = []
    for title, name in (
        ("The card", "ModelCard"),
        ("An entry of `classes`", "SemanticClass"),
        ("`depth`", "DepthRange"),
        ("`fit`", "NetworkFit"),
    ):
        (found,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
        parts += [f"## {title}", table(("entry", "type", ""), *_entries(found, vars(card)))]
    return page(
        "The model card",
        f"The JSON object in the metadata entry `{card.METADATA_KEY}` of a model file. Its"
        f" `schema_version` is {card.SCHEMA_VERSION}: a file with a newer version is refused."
        " [The model file](../model_file.md) describes the rest of the file.",
        *parts,
    )


def _entries(found: ast.ClassDef, names: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    body = [*found.body, None]
    for node, after in pairwise(body):
        if not isinstance(node, ast.AnnAssign):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        for constant in re.findall(r"`([A-Z_]+)`", text):
            text = text.replace(f"`{constant}`", ", ".join(f"`{v}`" for v in names[constant]))
        yield f"`{ast.unparse(node.target)}`", f"`{ast.unparse(node.annotation)}`", text


# --- SPECs of depthseg wrap ---------------------------------------------------------------------


def wrap_schema() -> str:
    """The JSON schema, for editors."""
    from depthseg_ros.wrap.schema import SCHEMA

    return json.dumps(SCHEMA, indent=1) + "\n"


def wrap_spec() -> str:
    """The entries of a SPEC, by its schema."""
    from depthseg_ros.wrap.schema import SCHEMA

    network = SCHEMA["properties"]["models"]["items"]
    parts: list[str] = []
    for title, schema in (
        ("The whole SPEC", SCHEMA),
        ("A network (`models`)", network),
        *((f"`{name}`", network["properties"][name]) for name in ("input", "labels", "depth")),
        ("`depth.sky`", network["properties"]["depth"]["properties"]["sky"]),
        ("A class (`classes`)", SCHEMA["properties"]["classes"]["anyOf"][0]["items"]),
    ):
        rows = [
            (f"`{name}`", _values(each), _about(name, each, schema))
            for name, each in schema["properties"].items()
        ]
        parts += [f"## {title}", schema["description"], table(("entry", "values", ""), *rows)]
    return page(
        "SPEC of depthseg wrap",
        "What a SPEC may have; [Your own network](../wrap.md) explains how to write one. The JSON"
        " schema for editors is `config/wrap/schema.json`.",
        *parts,
    )


def _about(name: str, schema: Any, whole: Any) -> str:
    needed = "**Required.** " if name in whole["required"] else ""
    default = schema.get("default")
    text = "" if default is None else f" Default: `{json.dumps(default)}`."
    return needed + str(schema["description"]) + text


def _values(schema: Any) -> str:
    """The values of an entry, in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"])
    if schema["type"] == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        count = f"{least} " if least == most else ""
        return f"list of {count}{_values(schema['items'])}"
    return {"string": "text", "object": "entries", "boolean": "true or false"}.get(
        schema["type"], schema["type"]
    )


# --- The layout ---------------------------------------------------------------------------------

_BOX, _GAP, _LINE, _ROW = 236, 14, 15, 44
"""Pixels of the diagram: a box's width, the space beside it, a line of text, the space below."""


def layout() -> str:
    """The folders of both packages as boxes, what is in them, and what they import, as SVG."""
    import grimp

    graph = grimp.build_graph("depthseg_ros", "training")
    shapes, x, bottom = [], _GAP, 0
    for package in ("depthseg_ros", "training"):
        width, height, drawn = _panel(graph, package, x)
        shapes += drawn
        x, bottom = x + width + 2 * _GAP, max(bottom, height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x - _GAP} {bottom + _GAP}"'
        ' font-family="system-ui, sans-serif" font-size="12" role="img"'
        ' aria-label="Folders and files of depthseg_ros and training, and what they import">\n'
        "<!-- Written by docs/generate.py, from the imports. -->\n"
        "<style>.back{fill:#fff}.panel{fill:none;stroke:#9aa7b4;stroke-dasharray:5 5}"
        ".box{fill:#f4f6f8;stroke:#5b6b7b}.way{fill:none;stroke:#33414e;opacity:.6;marker-end:url(#head)}"
        ".far{stroke-dasharray:3 3}"
        ".name{font-weight:600;font-size:14px}.other{fill:#2f6fb3}</style>\n"
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#33414e"/></marker>\n'
        f'<rect class="back" width="{x - _GAP}" height="{bottom + _GAP}"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _panel(graph: Any, package: str, left: int) -> tuple[int, int, list[str]]:
    """A package's boxes and arrows from x = `left` on: width, height, and shapes in SVG."""
    parts = {m.rpartition(".")[2] for m in graph.find_children(package)} - {"msg", "srv"}
    above: dict[str, set[str]] = {part: set() for part in parts}  # part -> what it imports
    others: dict[str, set[str]] = {part: set() for part in parts}
    for part in parts:
        inside = {f"{package}.{part}"} | graph.find_descendants(f"{package}.{part}")
        for found in {n for m in inside for n in graph.find_modules_directly_imported_by(m)}:
            root, _, rest = found.partition(".")
            other = rest.partition(".")[0]
            if root != package:
                others[part].add(other)
            elif other in parts - {part}:
                above[part].add(other)
    above["cli"].discard("node")  # one file of each, see pyproject.toml
    ranks: dict[str, int] = {}

    def rank(part: str) -> int:
        if part not in ranks:
            ranks[part] = 1 + max(map(rank, above[part]), default=-1)
        return ranks[part]

    def reached(part: str) -> set[str]:
        return above[part].union(*map(reached, above[part]))

    rows = [sorted(p for p in parts if rank(p) == r) for r in range(max(map(rank, parts)), -1, -1)]
    texts = {part: _contents(graph, package, part, sorted(others[part])) for part in parts}
    wide = max(map(len, rows)) * (_BOX + _GAP) - _GAP
    places, boxes, y = {}, [], _GAP + 3 * _LINE
    for row in rows:
        start = left + _GAP + (wide - len(row) * (_BOX + _GAP) + _GAP) // 2
        tall = _LINE * (max(len(texts[part]) for part in row) + 2)
        for number, part in enumerate(row):
            box_x, lines = start + number * (_BOX + _GAP), texts[part]
            own = _LINE * (len(lines) + 2)
            places[part] = (box_x + _BOX // 2, y, y + own)
            boxes.append(
                f'<rect class="box" x="{box_x}" y="{y}" width="{_BOX}" height="{own}" rx="6"/>'
            )
            folder = "/" if graph.find_children(f"{package}.{part}") else ".py"
            boxes.append(_text(box_x + 8, y + _LINE + 3, f"{part}{folder}", "name"))
            boxes += [
                _text(box_x + 8, y + _LINE * (2 + n) + 4, line, kind)
                for n, (line, kind) in enumerate(lines)
            ]
        y += tall + _ROW
    ways = []
    for part in sorted(parts):
        for other in sorted(above[part] - set().union(*map(reached, above[part]))):
            (x1, _, y1), (x2, y2, _) = places[part], places[other]
            middle = (y1 + y2) // 2
            curve = f"M{x1} {y1} C{x1} {middle} {x2} {middle} {x2} {y2}"
            far = " far" * (rank(part) - rank(other) > 1)  # it passes behind boxes
            ways.append(f'<path class="way{far}" d="{curve}"/>')
    y += _GAP - _ROW
    panel = (
        f'<rect class="panel" x="{left}" y="{_GAP}" width="{wide + 2 * _GAP}"'
        f' height="{y - _GAP}" rx="10"/>'
    )
    title = _text(left + _GAP, _GAP + _LINE + 6, f"{package}/", "name")
    return wide + 2 * _GAP, y, [panel, title, *ways, *boxes]


def _contents(graph: Any, package: str, part: str, others: list[str]) -> list[tuple[str, str]]:
    """The lines of a box and their class: files, and what it uses of the other package."""
    names = []
    for child in sorted(graph.find_children(f"{package}.{part}")):
        folder = "/" if graph.find_children(child) else ""
        names.append(child.rpartition(".")[2] + folder)
    lines = [(line, "") for line in textwrap.wrap(", ".join(names), 35)]
    if others:
        used = textwrap.wrap(f"uses {', '.join(others)}", 35)
        lines += [(line, "other") for line in used]
    return lines


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{text}</text>'


PAGES = {
    "docs/images/layout.svg": layout,
    "docs/reference/topics.md": topics,
    "docs/reference/parameters.md": parameters,
    "docs/reference/messages.md": messages,
    "docs/reference/launch.md": launch,
    "docs/reference/command_line.md": command_line,
    "docs/reference/model_card.md": model_card,
    "docs/reference/wrap_spec.md": wrap_spec,
    "config/wrap/schema.json": wrap_schema,
    "config/depthseg.yaml": configuration,
}
"""Every generated file, below the checkout, and what writes it."""


def main() -> int:
    """Write every page that has changed."""
    for name, text_of in PAGES.items():
        target, text = ROOT / name, text_of()
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
            print(f"docs: {name} updated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
