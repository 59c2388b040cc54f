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

"""Read any folder of images with masks, depth or both, described by a YAML file.

The file is `dataset.yaml` in the folder, or one of `training/configs/datasets`, which describe
public data sets. `Description` and `Splits` document its entries. `classes` is required for masks,
and `depth_unit` for depth. docs/tutorials/own_images.md shows how to train on a folder of images.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from depthseg_ros.imaging.image_files import IMAGES, LOSSLESS, is_image, report_left_out
from depthseg_ros.model_card import UNLABELLED, SemanticClass

from ...errors import TrainingError
from ...options import checked, read_yaml
from ..arrays import read_focal_length
from ..classes import CLASS_LISTS, parse_classes
from ..images import (
    image_size,
    read_ids,
    read_rgb,
    read_unchanged,
    require_same_size,
    warn_if_masks,
)
from ..label_spaces import read_map
from ..protocols import PROTOCOLS
from ..sample import Sample

_LOG = logging.getLogger(__name__)
SOURCE = "a folder of images"
TERMS = "those of the images' owner"
DESCRIPTION = "dataset.yaml"
OTHER = {"val": "test", "test": "val"}
"""Split -> the one to use if it does not exist."""
EVERY = 5

Files = dict[tuple[str, ...], Path]
"""Files by the strings that match the wildcards of their pattern."""


@dataclass
class Description:
    """The entries of the YAML file."""

    name: str | None = None
    """Name of the data set for the model card; default: the folder's name."""
    terms: str = TERMS
    """Terms of use for the model card."""
    images: str = "images/**/*"
    """Path pattern of the images, relative to the folder. `*` matches any part of a name, `**/` any
    folders, and `{split}` the name of the split's folder. Without an extension, the pattern matches
    all image files."""
    masks: str | None = None
    """Path pattern of the label files; each `*` matches the same string as in `images`. Default:
    `masks/**/*` if there is a folder `masks`."""
    depth: str | None = None
    """Path pattern of the depth files. Default: `depth/**/*` if there is a folder `depth`."""
    classes: str | list[Any] | dict[Any, Any] | None = None
    """A name in `classes.CLASS_LISTS`; or id -> name, or id -> `{name, color, flags}`; or a list of
    these with the ids 0, 1, and so on. A null name means unlabelled, and so does id 255 unless a
    class has it. A color is [R, G, B] or "#rrggbb"."""
    mask_values: str = "ids"
    """Content of masks: `ids` (gray or with a palette) or `colors` of the classes."""
    map: str | dict[Any, Any] | None = None
    """Map to the model's classes, see `label_spaces`: a mapping or a file. Not needed if the
    classes have the same names as the model's."""
    groups: str | dict[Any, Any] | None = None
    """Map to the model's classes for scoring; default: `map`."""
    depth_unit: float | None = None
    """Metres per step of the depth files, e.g. 0.001 for millimetres. Unknown depth is 0, 65535 in
    16 bits, or not finite in floating point."""
    fx: float | None = None
    """Focal length in pixels of the stored images."""
    camera: str | None = None
    """Instead of `fx`, a file relative to the folder: the nine numbers of a 3x3 matrix, or a ROS
    calibration file (YAML)."""
    splits: str | dict[str, Any] | None = None
    """`all`: every split has all images; or the entries of `Splits`."""
    protocol: str | None = None
    """Depth evaluation protocol, one of `protocols.PROTOCOLS`; default: `whole`."""


@dataclass
class Splits:
    """Selection of the validation images."""

    folders: dict[str, str] | None = None
    """Split -> value of `{split}`; default: the name of the split."""
    group: str | None = None
    """A regular expression. Its matches in the relative path of an image form the name of its
    group. All images of a group are in the same split. Default: each image is a group."""
    every: int | None = None
    """One of so many groups, in natural order, is val; default 5 if no path has `{split}`."""
    share: float | None = None
    """Instead of `every`: groups with about this fraction of the images are val. They are chosen by
    a hash of their names, so that additional groups change little."""
    held_out: list[str] | None = None
    """Instead of `every`: the names of the val groups; missing ones are logged."""

    def __post_init__(self) -> None:
        given = [x for x in (self.every, self.share, self.held_out) if x is not None]
        if len(given) > 1 or (self.every or 2) < 2 or not 0 < (self.share or 0.5) < 1:
            raise TrainingError(
                f"splits: every is {self.every}, share {self.share}, held_out {self.held_out};"
                " expected one of them, `every` at least 2, `share` between 0 and 1"
            )

    @property
    def holds_out(self) -> bool:
        """Whether a rule for val groups is given."""
        return any(x is not None for x in (self.every, self.share, self.held_out))

    def val(self, counts: Mapping[str, int]) -> set[str]:
        """Select the val groups from {group: number of images}; raises `TrainingError`."""
        groups = sorted(counts, key=_natural)
        if self.held_out is not None:
            unknown = [name for name in self.held_out if name not in counts]
            if unknown:
                found = (
                    f"splits: there is no group {_some(unknown)} to hold out, only {_some(groups)}"
                )
                if len(unknown) == len(self.held_out):
                    raise TrainingError(found)
                _LOG.warning("%s", found)
            return set(self.held_out)
        if len(groups) < 2:
            raise TrainingError(
                f"splits: there is only one group, {groups[0]!r}, so none can be held out: set"
                " another `group`, or `splits: all`"
            )
        if self.share is None:
            every = self.every or EVERY
            return set(groups[every // 2 :: every] or groups[-1:])
        room, chosen = self.share * sum(counts.values()), set()
        for name in sorted(groups, key=lambda group: zlib.crc32(group.encode())):
            if counts[name] <= room:
                chosen.add(name)
                room -= counts[name]
        return chosen or {min(groups, key=lambda group: counts[group])}


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + " and more" * (len(names) > 20)


class Pattern:
    """A path pattern such as `images/**/*` that extracts the matches of its wildcards."""

    def __init__(self, text: str, endings: frozenset[str]) -> None:
        """Compile a pattern; without an extension it matches files with one of `endings`."""
        self.text, self.endings = text, endings
        ending = os.path.splitext(text)[1].lower()
        self.any_ending = ending not in IMAGES
        stem = text.removesuffix(".*") if self.any_ending else text[: -len(ending)]
        parts = re.split(r"(\*\*/|\*|\?)", stem)
        self.first = parts[0].rpartition("/")[0]
        """Folder that contains all files."""
        wild = {"**/": "((?:.*/)?)", "*": "([^/]*)", "?": "([^/])"}
        expression = "".join(wild.get(p, re.escape(p)) for p in parts)
        last = r"\.[^./]+" if self.any_ending else f"(?i:{re.escape(ending)})"
        self._parts, self._ending = parts, ".png" if self.any_ending else text[-len(ending) :]
        self._expression = re.compile(expression + last)

    @property
    def wildcards(self) -> list[str]:
        """The wildcards in order."""
        return self._parts[1::2]

    def key(self, path: str) -> tuple[str, ...] | None:
        """Return the wildcard matches in a relative path; None if the pattern does not match."""
        match = self._expression.fullmatch(path)
        if match is None or os.path.splitext(path)[1].lower() not in self.endings:
            return None
        if self.any_ending and not is_image(Path(path)):
            return None
        return match.groups()

    def path(self, key: tuple[str, ...]) -> str:
        """Return the path of a key, with an example extension."""
        return "".join(p + k for p, k in zip(self._parts[::2], (*key, self._ending), strict=True))


class Folder(Dataset[Sample]):
    """The images of a folder, with masks and depth if it has them."""

    def __init__(
        self,
        root: str | Path,
        split: str,
        description: str | Path | None = None,
        splits: str | dict[str, Any] | None = None,
    ) -> None:
        """List a split.

        Args:
            root: The folder.
            split: `train`, `val`, `test`, or `all` for all images.
            description: The YAML file; default: `dataset.yaml` in the folder.
            splits: Overrides the entry of the description.

        Raises:
            TrainingError: the description is wrong, there are no images, or a file is missing.
        """
        self.root = Path(root).expanduser()
        file = self.root / DESCRIPTION if description is None else Path(description)
        if not self.root.is_dir():
            raise TrainingError(f"{self.root} is not a folder")
        self.about = _described(file)
        self.source = self.about.name or self.root.resolve().name
        self.terms, self.protocol = self.about.terms, self.about.protocol
        for attribute, default in (("masks", "masks"), ("depth", "depth")):
            if getattr(self.about, attribute) is None and (self.root / default).is_dir():
                setattr(self.about, attribute, f"{default}/**/*")
        for entry, needs in (("classes", "masks"), ("depth_unit", "depth")):
            if getattr(self.about, entry) is not None and getattr(self.about, needs) is None:
                raise TrainingError(
                    f"{file} has `{entry}`, but {self.root} has no folder {needs}: set `{needs}` to"
                    f" a pattern such as {needs}/*.png, or remove `{entry}`"
                )
        self.classes: str | tuple[SemanticClass, ...] | None = None
        if self.about.masks is not None:
            if self.about.classes is None:
                raise TrainingError(f"{file} has no `classes`, which are required for masks")
            self.classes, self._values = _class_values(self.about, file)
        if self.about.depth is not None and not 0 < (self.about.depth_unit or 0) < np.inf:
            raise TrainingError(
                f"{file} has the depth_unit {self.about.depth_unit}, expected metres per step of"
                " the depth files, e.g. 0.001 for millimetres"
            )
        self.map, self.group_map = (
            None if given is None else read_map(given, file.parent)
            for given in (self.about.map, self.about.groups)
        )
        self.split, self.images, masks, depths = self._listed(split, splits)
        self._paths = list(self.images.values())
        self.masks = self._beside(masks, "masks")
        self.depths = self._beside(depths, "depth")
        self.fx = self._focal_length()
        if self.masks and self.about.mask_values == "ids" and UNLABELLED not in self._values:
            warn_if_masks(self.masks)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @cached_property
    def aspects(self) -> list[float]:
        """Aspect ratio (width / height) of each image."""
        sizes = map(image_size, self._paths)
        return [width / height for width, height in sizes]

    @cached_property
    def image_keys(self) -> list[str]:
        """Relative path of each image, without its extension."""
        return [path.relative_to(self.root).with_suffix("").as_posix() for path in self._paths]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        path = self._paths[index]
        sample = Sample(read_rgb(path), fx=self.fx)
        if self.masks:
            sample.labels = self._labels(self.masks[index])
            require_same_size(path, sample.image, labels=sample.labels)
        if self.depths:
            sample.depth = self._metres(self.depths[index])
            require_same_size(path, sample.image, depth=sample.depth)
        return sample

    # --- Files ------------------------------------------------------------------------------------

    def _listed(
        self, split: str, splits: str | dict[str, Any] | None
    ) -> tuple[str, dict[Any, Path], dict[Any, Path], dict[Any, Path]]:
        """List a split, or its `OTHER` if it is empty.

        Returns:
            The name of the split, its images by key, and all masks and depth files by key.
        """
        about = self.about
        splits = about.splits if splits is None else splits
        if splits not in ("all", None) and not isinstance(splits, dict):
            raise TrainingError(f"splits is {splits!r}, expected `all` or a mapping")
        # `all` as an override does not include the folders of the description's test split.
        rules = splits if isinstance(splits, dict) else about.splits
        rules = rules if isinstance(rules, dict) else {}
        chosen = Splits(**checked(rules, Splits, set(), f"the splits of {self.source}"))
        folders = chosen.folders or {}
        everything = splits == "all" or split == "all"
        fixed = any("{split}" in (text or "") for text in (about.images, about.masks, about.depth))
        if not fixed and split not in ("train", "val", "test", "all"):
            raise TrainingError(f"got split {split!r}, {self.source} has train, val and all")
        for name in [split, OTHER[split]] if split in OTHER else [split]:
            if not fixed:
                places = [""]
            elif everything and split != "test":
                places = sorted({folders.get(s, s) for s in ("train", "val")})
            else:
                places = [folders.get(name, name)]
            images, masks, depths = Files(), Files(), Files()
            for place in places:
                of_place = self._files(place)
                for files, found in zip((images, masks, depths), of_place, strict=True):
                    files.update({(place, *key): path for key, path in found.items()})
            for what, files in (("masks", masks), ("depth files", depths)):
                unused = [path for key, path in files.items() if key not in images]
                report_left_out(self.root, unused, f"{what} without an image")
            if not everything and (not fixed or chosen.holds_out):
                images = self._part(name, images, chosen, fixed)
            if images:
                return name, images, masks, depths
        raise TrainingError(
            f"{self.root} has no images {about.images} of the split {split!r}"
            + (f" ({', '.join(places)} for {{split}})" if fixed else "")
        )

    def _files(self, folder: str) -> Iterator[Files]:
        """Yield images, masks and depth files by their wildcard matches; log unused files."""
        about = self.about
        texts = (about.images, about.masks, about.depth)
        patterns = [
            None if text is None else Pattern(text.replace("{split}", folder), endings)
            for text, endings in zip(texts, (IMAGES, LOSSLESS, LOSSLESS), strict=True)
        ]
        images = patterns[0]
        assert images is not None
        for pattern in patterns[1:]:
            if pattern is None:
                continue
            if pattern.wildcards != images.wildcards:
                raise TrainingError(
                    f"the pattern {pattern.text} has the wildcards {pattern.wildcards}, expected"
                    f" {images.wildcards} as {images.text} has"
                )
            if not pattern.any_ending and os.path.splitext(pattern.text)[1].lower() not in LOSSLESS:
                raise TrainingError(
                    f"{pattern.text}: this image format cannot store labels or depth, expected one"
                    f" of {', '.join(sorted(LOSSLESS))}"
                )
        below = {p.first: list(self._below(p.first)) for p in patterns if p is not None}
        used: set[str] = set()
        for pattern in patterns:
            found = Files()
            for path in below[pattern.first] if pattern else ():
                key = pattern.key(path) if pattern else None
                if key is not None:
                    used.add(path)
                    other = found.setdefault(key, self.root / path)
                    if other != self.root / path:
                        raise TrainingError(
                            f"{other} and {Path(path).name} have the same name except for the"
                            " ending: remove one"
                        )
            yield found
        rest = [Path(p) for p in below[images.first] if p not in used and p != about.camera]
        rest = [p for p in rest if p.name != DESCRIPTION and p.suffix.lower() not in LOSSLESS]
        report_left_out(self.root / images.first, rest, "not images by the description")

    def _below(self, first: str) -> Iterator[str]:
        """Yield the relative paths of all files in the subfolder `first`, in natural order."""
        for folder, folders, files in os.walk(self.root / first):
            folders[:] = sorted((f for f in folders if f[0] != "."), key=_natural)
            below = os.path.relpath(folder, self.root)
            for name in sorted((f for f in files if f[0] != "."), key=_natural):
                yield name if below == "." else f"{below}/{name}"

    def _part(
        self, split: str, images: dict[Any, Path], rules: Splits, fixed: bool
    ) -> dict[Any, Path]:
        """Select the images of a split by groups."""
        if split == "test" or not images:
            return images if fixed else {}
        of_image = {key: self._group(path, rules.group) for key, path in images.items()}
        held_out = rules.val(Counter(of_image.values()))
        wanted = split == "val"
        return {k: path for k, path in images.items() if (of_image[k] in held_out) == wanted}

    def _group(self, path: Path, expression: str | None) -> str:
        below = path.relative_to(self.root).as_posix()
        if expression is None:
            return below
        try:
            found = re.findall(expression, below)
        except re.error as error:
            raise TrainingError(f"splits: group {expression!r} is not valid: {error}") from None
        name = "".join(
            text for each in found for text in ([each] if isinstance(each, str) else each)
        )
        if not name:
            raise TrainingError(f"splits: group {expression!r} finds nothing in {below}")
        return name

    def _beside(self, files: dict[Any, Path], what: str) -> list[Path]:
        """Return the masks or depth files in the order of the images; empty if there are none."""
        text = getattr(self.about, what)
        if text is None:
            return []
        missing = [key for key in self.images if key not in files]
        if missing:
            folder, *key = missing[0]
            first = Pattern(text.replace("{split}", folder), LOSSLESS).path(tuple(key))
            raise TrainingError(
                f"{self.root}: {len(missing)} of {len(self.images)} images have no {what}, the"
                f" first is {self.images[missing[0]].relative_to(self.root)}, expected {first}"
            )
        return [files[key] for key in self.images]

    # --- Content ----------------------------------------------------------------------------------

    def _labels(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask as (H, W) class ids, 255 for unlabelled."""
        if self.about.mask_values == "ids":
            table = np.full(256, UNLABELLED, np.uint8)
            table[list(self._values)] = list(self._values.values())
            return table[read_ids(path, self._values)]
        rgb = read_rgb(path).astype(np.uint32)
        codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        known = np.array(sorted(self._values), np.uint32)
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        foreign, counts = np.unique(codes[known[places] != codes], return_counts=True)
        if len(foreign):
            named = [
                f"{[int(c) >> shift & 255 for shift in (16, 8, 0)]} ({n} pixels)"
                for c, n in zip(foreign[:8], counts, strict=False)
            ]
            more = f" and {len(foreign) - 8} more" * (len(foreign) > 8)
            raise TrainingError(
                f"{path} has the colors {', '.join(named)}{more}, which no class has: list them as"
                " {name: null, color: ...} if they are unlabelled"
            )
        return np.array([self._values[int(c)] for c in known], np.uint8)[places]

    def _metres(self, path: Path) -> NDArray[np.float32]:
        """Read depth as (H, W) metres, NaN for unknown."""
        wanted = "depth in one channel of uint8, uint16 or float32"
        stored = read_unchanged(path, wanted)
        if stored.ndim != 2 or stored.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
            channels = 1 if stored.ndim == 2 else stored.shape[2]
            raise TrainingError(
                f"{path} has {channels} channels of {stored.dtype}, expected {wanted}"
            )
        known = np.isfinite(stored) & (stored > 0)
        if stored.dtype == np.uint16:
            known &= stored < 65535
        metres = stored.astype(np.float32) * np.float32(self.about.depth_unit)
        return np.where(known, metres, np.float32(np.nan))

    def _focal_length(self) -> float | None:
        about = self.about
        if about.fx is not None and about.camera is not None:
            raise TrainingError(f"{self.source} has both `fx` and `camera`: remove one of them")
        if about.camera is None:
            if about.fx is not None and not 0 < about.fx < np.inf:
                raise TrainingError(f"{self.source} has fx {about.fx}, expected pixels above 0")
            return about.fx
        path = self.root / about.camera
        if path.suffix.lower() not in (".yaml", ".yml"):
            return read_focal_length(path)
        content = read_yaml(path, "a camera's calibration")
        try:
            fx = float(content["camera_matrix"]["data"][0])
            size = int(content["image_width"]), int(content["image_height"])
        except (LookupError, TypeError, ValueError):
            raise TrainingError(
                f"{path} is not a camera's calibration, expected image_width, image_height and"
                " camera_matrix: {data: [fx, 0, cx, ...]}"
            ) from None
        first = next(iter(self.images.values()))
        if image_size(first) != size:
            raise TrainingError(
                f"{path} is for images of {size}, {first} is {image_size(first)} (width, height):"
                " set `fx` to the focal length of the stored images"
            )
        return fx


def _described(file: Path) -> Description:
    """Read a description; raises `TrainingError`."""
    if not file.is_file():
        raise TrainingError(
            f"{file} is missing, which describes the folder's masks and depth: see"
            " docs/tutorials/own_images.md"
        )
    content = {str(k): v for k, v in read_yaml(file, "the description of a data set").items()}
    unknown = [key for key in content if key not in Description.__annotations__]
    if unknown:
        raise TrainingError(
            f"{file} has the entries {', '.join(unknown)}, expected some of"
            f" {', '.join(Description.__annotations__)}"
        )
    about = Description(**checked(content, Description, set(), str(file)))
    if about.mask_values not in ("ids", "colors"):
        raise TrainingError(f"{file}: mask_values is {about.mask_values!r}, expected ids or colors")
    if about.protocol is not None and about.protocol not in PROTOCOLS:
        raise TrainingError(
            f"{file}: protocol is {about.protocol!r}, expected one of {', '.join(PROTOCOLS)}"
        )
    return about


def _class_values(
    about: Description, file: Path
) -> tuple[str | tuple[SemanticClass, ...], dict[int, int]]:
    """Return the class list of a description, and {mask value: class id}.

    Mask values are ids, or colors as 0xrrggbb.
    """
    given, by_color = about.classes, about.mask_values == "colors"
    if isinstance(given, str):
        if given not in CLASS_LISTS:
            raise TrainingError(
                f"{file}: there are no classes {given!r}, expected id: NAME lines, or one of"
                f" {', '.join(CLASS_LISTS)}"
            )
        named = CLASS_LISTS[given]
        values = {_code(c.color) if by_color else c.id: c.id for c in named}
        return given, values if by_color else {**values, UNLABELLED: UNLABELLED}
    parsed = parse_classes(given or {}, str(file))
    values = {} if by_color else {UNLABELLED: UNLABELLED}
    entries = given if isinstance(given, list) else list((given or {}).values())
    for (number, parsed_class), entry in zip(parsed.items(), entries, strict=True):
        value = number
        if by_color:
            if not isinstance(entry, Mapping) or entry.get("color") is None:
                raise TrainingError(
                    f"{file}: the class {number} has no color, required for mask_values: colors"
                )
            color = entry["color"]
            value = _code(bytes.fromhex(color[1:]) if isinstance(color, str) else color)
            if value in values:
                raise TrainingError(f"{file}: the class {number} has the color of another class")
        values[value] = UNLABELLED if parsed_class is None else parsed_class.id
    return tuple(c for c in parsed.values() if c is not None), values


def _code(color: Sequence[int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _natural(name: str) -> list[Any]:
    return [int(s) if i % 2 else s for i, s in enumerate(re.split(r"(\d+)", name))]
