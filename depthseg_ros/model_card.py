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

"""Read, write and check the model card, a model file's metadata.

A model file is one `.onnx` file. Its graph maps a camera image to the node's outputs, and its
metadata has a JSON card under `METADATA_KEY`. `docs/model_file.md` describes both.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .files import LFS_POINTER, is_lfs_pointer, whole
from .imports import explained
from .texts import shortened

METADATA_KEY = "depthseg_ros"
FP32_KEY = "depthseg_ros.fp32_sha256"
"""Metadata entry of an int8 file: SHA-256 of the fp32 file that it was made from."""
SCHEMA_VERSION = 4
"""Version of written files. In version 1 the graph stretches every image to `network_size`; in
version 2 it has the fit `area`, and metric depth needs `canonical_fx`; up to version 3 it has no
`depth_confidence`."""
DEFAULT = "street"
"""Name of the default model."""
UNLABELLED = 255
"""The class id of pixels without a class, in labels and in label images."""

NETWORK_STRIDE = 32
"""The network's widths and heights are multiples of it, pixels."""
MAX_SIZE = 8192
"""Maximum width or height of a network, pixels."""
MAX_CARD = 2**20
"""Maximum length of a card, characters."""
MAX_NAME = 100
"""Maximum length of the name of a model, a system or a class, characters."""

MAX_BYTES = 2**31
"""Size from which a model file is refused."""

CLASS_FLAGS = ("sky", "traversable", "obstacle", "movable")
DEPTH_KINDS = ("metric", "up-to-scale", "normalised")
PRECISIONS = ("fp32", "fp16", "int8")
FITS = ("area", "short-side", "image", "letterbox", "stretch")

# The graph's contract: name -> (element type, rank). The last axis of images is RGB.
_INPUTS = {"image": ("UINT8", 4), "fx": ("FLOAT", 1), "background": ("UINT8", 4)}
_OUTPUTS = {
    "labels": ("UINT8", 3),
    "confidence": ("UINT8", 3),
    "depth": ("FLOAT", 3),
    "depth_confidence": ("UINT8", 3),
}


class ModelFileError(ValueError):
    """A model file cannot be used; the message gives what was found and what was expected."""


@dataclass(frozen=True)
class SemanticClass:
    """One class of the label image."""

    id: int
    """Class id in the label image, 0 to 254."""
    name: str
    """Name, unique in the model."""
    color: tuple[int, int, int]
    """RGB, 0 to 255."""
    flags: tuple[str, ...] = ()
    """Any of `CLASS_FLAGS`."""

    def __post_init__(self) -> None:
        _require(_is_int(self.id) and 0 <= self.id < UNLABELLED, f"class id {self.id!r}", "0..254")
        _require(self.name != "" and _is_name(self.name), f"class name {self.name!r}", _NAME)
        _require(
            len(self.color) == 3 and all(_is_int(c) and 0 <= c <= 255 for c in self.color),
            f"color {self.color!r} of class {self.name}",
            "three integers 0..255",
        )
        unknown = [flag for flag in self.flags if flag not in CLASS_FLAGS]
        _require(not unknown, f"flags {unknown} of class {self.name}", f"any of {CLASS_FLAGS}")


@dataclass(frozen=True)
class DepthRange:
    """Kind and range of the depth output."""

    kind: str
    """One of `DEPTH_KINDS`."""
    min: float
    """Minimum; smaller depth is set to it. In metres for metric depth."""
    max: float
    """Maximum; larger depth is NaN."""

    def __post_init__(self) -> None:
        _require(self.kind in DEPTH_KINDS, f"depth kind {self.kind!r}", f"one of {DEPTH_KINDS}")
        finite = all(_is_number(v) and math.isfinite(v) for v in (self.min, self.max))
        _require(
            finite and 0 <= self.min < self.max, f"depth range {self.min}..{self.max}", "0<=min<max"
        )


@dataclass(frozen=True)
class NetworkFit:
    """How the network's size follows from the image's size."""

    kind: str = "area"
    """One of `FITS`. `area`: the image's shape with as many pixels as `network_size`; `short-side`:
    the image's shape with the short side of `network_size`; `image`: the image's own size.
    `letterbox` and `stretch`: always `network_size`, with a border or with another shape."""
    multiple_of: int = NETWORK_STRIDE
    """The network's width and height are multiples of it, pixels; not for `letterbox` and
    `stretch`."""
    offset: int = 0
    """Added to the multiples, pixels; less than `multiple_of`."""

    def __post_init__(self) -> None:
        _require(self.kind in FITS, f"fit {self.kind!r}", f"one of {FITS}")
        _require(
            _is_int(self.multiple_of) and 1 <= self.multiple_of <= MAX_SIZE,
            f"multiple_of {self.multiple_of!r} of fit",
            f"1..{MAX_SIZE}",
        )
        _require(
            _is_int(self.offset) and 0 <= self.offset < self.multiple_of,
            f"offset {self.offset!r} of fit",
            "0 or more, and less than multiple_of",
        )

    def size_for(self, width: int, height: int, network_size: tuple[int, int]) -> tuple[int, int]:
        """Width and height at which the network runs for an image, pixels.

        The graph of a model file computes the same.
        """
        if self.kind in ("letterbox", "stretch"):
            return network_size
        if self.kind == "area":
            pixels = network_size[0] * network_size[1]
            return fitted_size(width, height, pixels, self.multiple_of, self.offset)
        # In integers, as in the graph: length * share / unit, rounded.
        share, unit = 1, 1
        if self.kind == "short-side":
            share, unit = min(network_size), min(width, height)

        def fitted(length: int) -> int:
            step = self.multiple_of
            number = (2 * (length * share - self.offset * unit) + unit * step) // (2 * unit * step)
            return step * max(1, number) + self.offset

        return fitted(width), fitted(height)


@dataclass(frozen=True)
class ModelCard:
    """The card of a model file."""

    name: str
    """Name of the model."""
    system: str
    """The training system that made it, e.g. `shared_encoder`."""
    classes: tuple[SemanticClass, ...]
    """Empty for a model without labels."""
    depth: DepthRange | None
    """None for a model without depth."""
    network_size: tuple[int, int]
    """Width and height in pixels. `fit` and the image's size give the size at which the network
    runs, `size_for` computes it. If the file has two networks, that of the depth network."""
    canonical_fx: float | None = None
    """Focal length, in pixels at the network's size, of the canonical camera of metric depth; the
    graph scales depth by the focal length of the real camera. None: depth that is not metric, or
    metric depth that does not depend on `fx` (needs version 3)."""
    depth_confidence: bool = False
    """Whether the graph has the output `depth_confidence` (needs version 4)."""
    needs_background: bool = False
    """Whether the graph needs a background image: the same view without foreground."""
    trained_on: tuple[str, ...] = ()
    """Data sources."""
    terms: str = ""
    """Terms of use that follow from the training data."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics on validation data; keys are data set and metric, e.g. `camvid-val/miou`."""
    precision: str = "fp32"
    """Precision of the graph, one of `PRECISIONS`."""
    parameters: int = 0
    """Number of the network's weights."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the tools that made the file."""
    fit: NetworkFit = field(default_factory=NetworkFit)
    """How the network's size follows from the image's size."""
    single_image: bool = False
    """Whether the graph takes only one image at a time (N is 1)."""
    reducible: bool = False
    """Whether a runtime may reduce the image to `size_for` its size and enlarge the outputs itself,
    which takes less time for the same result: the image bilinear; class ids and depth confidence of
    the nearest pixel, confidence bilinear, depth bilinear as ln(depth), or as it is if it is
    normalised."""
    schema_version: int = SCHEMA_VERSION
    """Version of the graph's contract."""

    def __post_init__(self) -> None:
        _require(bool(self.classes) or self.depth is not None, "no classes and no depth", "either")
        _require(
            len(self.classes) <= UNLABELLED, f"{len(self.classes)} classes", f"at most {UNLABELLED}"
        )
        for what in ("id", "name"):
            values = [getattr(c, what) for c in self.classes]
            twice = sorted({v for v in values if values.count(v) > 1})
            _require(not twice, f"class {what} {twice} twice", "each once")
        size = self.network_size
        _require(
            len(size) == 2 and all(_is_int(v) and v > 0 for v in size),
            f"network_size {size!r}",
            "[width, height] in pixels",
        )
        _require(max(size) <= MAX_SIZE, f"network_size {size!r}", f"at most {MAX_SIZE}")
        for entry in ("depth_confidence", "needs_background", "single_image", "reducible"):
            value = getattr(self, entry)
            _require(isinstance(value, bool), f"{entry} {value!r}", "true or false")
        _require(
            not self.depth_confidence or (self.depth is not None and self.schema_version >= 4),
            "depth_confidence",
            "it only with depth and from schema version 4 on",
        )
        for entry in ("name", "system"):
            value = getattr(self, entry)
            _require(_is_name(value), f"{entry} {value!r}", _NAME)
        _require(isinstance(self.terms, str), f"terms {self.terms!r}", "text")
        _require(
            self.precision in PRECISIONS, f"precision {self.precision!r}", f"one of {PRECISIONS}"
        )
        _require(
            _is_int(self.parameters) and self.parameters >= 0,
            f"parameters {self.parameters!r}",
            "a count",
        )
        _require(
            all(isinstance(source, str) for source in self.trained_on),
            f"trained_on {self.trained_on!r}",
            "a list of texts",
        )
        _require(
            isinstance(self.metrics, Mapping)
            and all(_is_number(v) and math.isfinite(v) for v in self.metrics.values()),
            f"metrics {self.metrics!r}",
            "names with numbers",
        )
        _require(
            isinstance(self.tools, Mapping)
            and all(isinstance(v, str) for v in self.tools.values()),
            f"tools {self.tools!r}",
            "names with versions",
        )
        fx = self.canonical_fx
        if self.metric and (fx is not None or self.schema_version < 3):
            _require(
                fx is not None and _is_number(fx) and math.isfinite(fx) and fx > 0,
                f"canonical_fx {fx!r}",
                "a focal length in pixels, because the depth is metric",
            )

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which the network runs for an image of this size, pixels."""
        if self.schema_version < 2:
            return self.network_size
        return self.fit.size_for(width, height, self.network_size)

    @property
    def metric(self) -> bool:
        """Whether depth is in metres."""
        return self.depth is not None and self.depth.kind == "metric"

    @property
    def logarithmic(self) -> bool:
        """Whether depth is interpolated as its logarithm: it is positive."""
        return self.depth is not None and self.depth.kind != "normalised"

    @property
    def needs_fx(self) -> bool:
        """Whether the graph needs the camera's focal length."""
        return self.metric and self.canonical_fx is not None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        wanted = {"image": True, "fx": self.needs_fx, "background": self.needs_background}
        return tuple(name for name, needed in wanted.items() if needed)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in their order."""
        labels = ("labels", "confidence") if self.classes else ()
        depth = ("depth",) if self.depth is not None else ()
        return (*labels, *depth, *(("depth_confidence",) if self.depth_confidence else ()))

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card; raises `ModelFileError` with the name of a wrong entry."""
        if len(text) > MAX_CARD:
            raise ModelFileError(
                f"the model card has {len(text)} characters, expected at most {MAX_CARD}"
            )
        try:
            entries = json.loads(text)
            json.dumps(entries, ensure_ascii=False).encode()  # lone surrogates cannot be printed
        except (
            ValueError,
            RecursionError,
        ) as error:  # ValueError: also for a number of 5000 digits
            raise ModelFileError(f"the model card is not JSON: {error}") from None
        _require(isinstance(entries, dict), "a model card that is not a JSON object", "an object")
        version = entries.get("schema_version")
        _require(_is_int(version) and version >= 1, f"schema_version {version!r}", "an integer")
        if version > SCHEMA_VERSION:
            raise ModelFileError(
                f"the model card has schema version {shortened(str(version))}, this depthseg_ros"
                f" reads up to {SCHEMA_VERSION}: update depthseg_ros or export the model again"
            )
        try:
            classes = tuple(
                _build(SemanticClass, {**c, "color": tuple(c["color"]), "flags": tuple(c["flags"])})
                for c in entries.pop("classes")
            )
            depth = entries.pop("depth")
            fit = {"fit": _build(NetworkFit, entries.pop("fit"))} if "fit" in entries else {}
            return _build(
                cls,
                {
                    **entries,
                    **fit,
                    "classes": classes,
                    "depth": None if depth is None else _build(DepthRange, depth),
                    "network_size": tuple(entries["network_size"]),
                    "trained_on": _texts(entries.get("trained_on", [])),
                },
            )
        except KeyError as error:
            raise ModelFileError(
                f"the model card does not have the entry {shortened(str(error))}"
            ) from None
        except (TypeError, AttributeError, RecursionError) as error:
            raise ModelFileError(
                f"the model card has an entry of the wrong type: {shortened(str(error), 200)}"
            ) from None


def fitted_size(
    width: int, height: int, pixels: int, stride: int = NETWORK_STRIDE, offset: int = 0
) -> tuple[int, int]:
    """The network's width and height for an image: its shape, with about `pixels` pixels.

    Both are multiples of `stride`, plus `offset`. The short side is rounded first and the long side
    follows from it, so that pixels are square up to half a stride (3 % of 480 pixels). An image of
    an extreme aspect ratio is stretched, so that the network has at most twice its pixels. The
    graph of a model file computes the same.
    """
    short, long = sorted((width, height))

    def to_stride(length: float) -> int:
        return stride * max(1, round((length - offset) / stride)) + offset

    least = to_stride(math.sqrt(pixels * short / long))
    longest = min(2 * pixels / least, 1.5 * math.sqrt(pixels * long / short))
    most = to_stride(min(least * long / short, longest))
    return (most, least) if width > height else (least, most)


def default_model() -> Path:
    """Path of the package's default model file, in the checkout or in the prefix's share folder.

    The same rule works after `pip install` and after `colcon build`, without ROS.
    """
    package = Path(__file__).parent
    shares = (prefix / "share" / "depthseg_ros" for prefix in package.parents)
    for folder in (package.parent, *shares):
        if (folder / "models" / "street.onnx").is_file():
            return folder / "models" / "street.onnx"
    return package.parent / "models" / "street.onnx"


def find_model(model: str | os.PathLike[str]) -> Path:
    """The model file for a path or a name.

    A name is `street` or `indoor`, which come with the package, or the path of a file without
    `.onnx`. A file with exactly that name in the working folder comes first.
    """
    path = Path(os.path.expanduser(model))
    if path.suffix == ".onnx" or path.is_file() or not path.name:
        return path
    if str(path).isidentifier() and (own := default_model().with_stem(str(path))).is_file():
        return own
    beside = path.with_name(f"{path.name}.onnx")
    return beside if beside.is_file() else path


def int8_beside(path: Path) -> Path:
    """Path of the int8 file of an fp32 file: `NAME-int8.onnx` beside `NAME.onnx`."""
    return path.with_stem(f"{path.stem}-int8")


def check_int8(int8: Path, fp32: Path) -> None:
    """Check that an int8 file was made from an fp32 file and has the same metadata.

    Raises:
        ModelFileError: It was not, the cards differ, or one of the files is missing or wrong.
    """
    with explained():
        import onnx

    card = read(int8)
    if card.precision != "int8":
        raise ModelFileError(f"{int8} has the precision {card.precision}, expected int8")
    metadata = {
        entry.key: entry.value for entry in onnx.load(int8, load_external_data=False).metadata_props
    }
    if metadata.get(FP32_KEY) != _sha256(fp32):
        raise ModelFileError(f"{int8} was not made from the current {fp32}")
    expected = read(fp32)
    different = [
        entry.name
        for entry in fields(ModelCard)
        if entry.name != "precision" and getattr(card, entry.name) != getattr(expected, entry.name)
    ]
    if different:
        raise ModelFileError(f"the cards of {int8} and {fp32} differ in {', '.join(different)}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_onnx(path: Path) -> Any:
    """Load the `onnx.ModelProto` of an existing file, without weights in other files.

    Raises:
        ModelFileError: It is not ONNX, has no nodes, or is too large.
    """
    with explained():
        import onnx
        from google.protobuf.message import DecodeError

    if path.stat().st_size >= MAX_BYTES:
        raise ModelFileError(f"{path} has 2 GiB or more, expected an ONNX file of less")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        with suppress(OSError), path.open("rb") as file:
            if is_lfs_pointer(file.read(100)):
                raise ModelFileError(f"{path} is {LFS_POINTER}") from None
        raise ModelFileError(f"{path} is not an ONNX file: {shortened(str(error), 200)}") from None
    if not model.graph.node:
        raise ModelFileError(f"{path} is not an ONNX file, or its graph is empty")
    return model


def read(path: str | os.PathLike[str]) -> ModelCard:
    """Read and check the card of a model file; `path` may be a name, see `find_model`.

    Raises:
        ModelFileError: The file is missing, is not ONNX, has no card, has a card of a newer
            schema, or its card contradicts itself or the graph.
    """
    path = find_model(path)
    if not path.is_file():
        files = default_model().parent.glob("*.onnx")
        own = ", ".join(sorted(each.stem for each in files if each.stem.isidentifier()))
        names = f"; the package has {own}" if str(path).isidentifier() else ""
        raise ModelFileError(f"there is no model file {path}{names}")
    model = load_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise ModelFileError(
            f"{path} has no model card (metadata entry {METADATA_KEY!r});"
            " export it with 'python -m training export', or make a model file of it with"
            " 'depthseg wrap' (docs/wrap.md)"
        )
    try:
        card = ModelCard.from_json(metadata[METADATA_KEY])
        _check_graph(model, card)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return card


def write(
    path: str | os.PathLike[str], model: Any, card: ModelCard, fp32: Path | None = None
) -> None:
    """Write the `onnx.ModelProto` with its card to `path`, atomically.

    Args:
        path: The file to write.
        model: The graph.
        card: Its card.
        fp32: For an int8 file, the fp32 file that it was made from; see `check_int8`.

    Raises:
        ModelFileError: The card contradicts the graph.
    """
    with explained():
        import onnx

    _check_graph(model, card)
    own = (METADATA_KEY, FP32_KEY)
    kept = [entry for entry in model.metadata_props if entry.key not in own]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if fp32 is not None:
        model.metadata_props.add(key=FP32_KEY, value=_sha256(fp32))
    model.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        onnx.save(model, unfinished, format="protobuf")  # independent of the suffix


def _check_graph(model: Any, card: ModelCard) -> None:
    """Compare the graph's inputs and outputs with those of the card."""
    from onnx import TensorProto

    for part in _tensors_and_nodes(model):
        if isinstance(part, TensorProto):
            if part.data_location == TensorProto.EXTERNAL:
                raise ModelFileError("its weights are in another file; expected all in one file")
        elif part.op_type == "EPContext":
            raise ModelFileError(
                "it contains an engine (EPContext), which is code; export the graph"
            )

    elements = {number: name for name, number in TensorProto.DataType.items()}

    def shapes(values: Any) -> dict[str, tuple[str, int]]:
        types = {value.name: value.type.tensor_type for value in values}
        return {
            str(name): (elements.get(t.elem_type, str(t.elem_type)), len(t.shape.dim))
            for name, t in types.items()
        }

    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = shapes(value for value in model.graph.input if value.name not in stored)
    outputs = shapes(model.graph.output)
    _compare("input", inputs, _INPUTS, set(card.inputs))
    _compare("output", outputs, _OUTPUTS, set(card.outputs))


def _tensors_and_nodes(message: Any) -> Iterator[Any]:
    """Yield those of a protobuf message, also in attributes, subgraphs and functions."""
    from onnx import NodeProto, TensorProto

    if isinstance(message, TensorProto | NodeProto):
        yield message
    if isinstance(message, TensorProto):
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if hasattr(value, "__len__") else [value]:
                yield from _tensors_and_nodes(part)


def _compare(
    kind: str,
    found: dict[str, tuple[str, int]],
    contract: dict[str, tuple[str, int]],
    promised: set[str],
) -> None:
    if set(found) != promised:
        raise ModelFileError(
            f"its graph has the {kind}s {shortened(repr(sorted(found)), 200)}, expected"
            f" {sorted(promised)} from its card"
        )
    for name, (element, rank) in found.items():
        if (element, rank) != contract[name]:
            raise ModelFileError(
                f"its {kind} {name} is {element} with {rank} axes,"
                f" expected {contract[name][0]} with {contract[name][1]}"
            )


def _build(kind: Any, entries: dict[str, Any]) -> Any:
    unknown = sorted(set(entries) - {f.name for f in fields(kind)})
    _require(not unknown, f"unknown entries {unknown}", f"those of {kind.__name__}")
    return kind(**entries)


def _require(condition: bool, got: str, expected: str) -> None:
    if not condition:
        raise ModelFileError(f"model card: got {shortened(got, 200)}, expected {expected}")


def _texts(value: object) -> tuple[str, ...]:
    _require(isinstance(value, list), f"trained_on {value!r}", "a list of texts")
    return tuple(value)  # type: ignore[arg-type]  # checked above


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """Whether it is a number in the range of a float; JSON has integers of any size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**1023


_NAME = f"one line of at most {MAX_NAME} characters"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()
