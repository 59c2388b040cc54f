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

"""Read YAML files, and check options against type annotations; errors have one line."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from .errors import TrainingError


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, but duplicate keys are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in keys:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"it has {key!r} twice, the second time in line {line}")
            keys.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> dict[Any, Any]:
    """Read a YAML file that contains a mapping without duplicate keys.

    Args:
        path: The file; UTF-8, or UTF-16 with a byte order mark.
        what: What it contains, for the message.

    Raises:
        TrainingError: It cannot be read, is not YAML, or is not a mapping.
    """
    try:
        data = path.read_bytes()
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        content = _Loader(data.decode("utf-16" if utf16 else "utf-8-sig")).get_single_data()
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{path} cannot be read as {what}: {reason}") from None
    if not isinstance(content, dict):
        raise TrainingError(f"{path} cannot be read as {what}: expected KEY: VALUE lines")
    return content


def checked(
    options: Mapping[str, Any], kind: type, skip: Set[int | str], what: str
) -> dict[str, Any]:
    """Convert options to the annotated types of a class's arguments.

    This happens before the class is called. So an error of the class, other than a `TrainingError`,
    is a bug and not a mistake in the options.

    Args:
        options: Name -> value.
        kind: The class.
        skip: Arguments that are passed separately: names, or the number of first arguments.
        what: What the options are for, for the message.

    Raises:
        TrainingError: An unknown name, or a value of the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_class_arguments(kind, skip=set(skip), fail_untyped=False)
        values = parser.parse_object(dict(options))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"{what}: {reason}") from None
    return {option: values[option] for option in options}


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a folder's content was made with the same options.

    Raises:
        TrainingError: The options differ.
    """
    changed = [
        f"{name} {before.get(name)!r} before, {now.get(name)!r} now"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise TrainingError(
            f"{folder} was made with other options ({'; '.join(changed)}): give the same ones, or"
            " use another folder"
        )
