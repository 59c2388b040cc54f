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
"""Describe an ONNX file, with a SPEC to start from: `depthseg wrap --describe`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from . import network as networks
from .network import Tensor
from .preprocess import ELEMENTS
from .schema import WrapError

_SIZES = (640, 480), (512, 512), (518, 518), (513, 513), (224, 224)
"""Widths and heights to try with a network that does not fix both."""
_FLAGS = {
    "sky": r"\bsky\b",
    "traversable": r"\b(road|floor|sidewalk|path|rug|carpet|earth|grass|terrain|ground)\b",
    "movable": r"\b(person|people|human|rider|car|truck|bus|train|van|motorcycle|bicycle|animal)\b",
}


class _Guess(NamedTuple):
    """The input of a network as far as the file shows it."""

    tensor: Tensor
    layout: str
    size: tuple[int, int]
    fixed: bool
    outputs: dict[str, NDArray[Any]]
    """For noise of that size; empty if the network failed."""
    failure: str


def describe(file: Path) -> str:
    """Inputs and outputs of an ONNX file as comments, and a SPEC with marked guesses, as YAML.

    Raises:
        WrapError: The file cannot be wrapped, whatever the SPEC.
    """
    model = networks.load(file)
    guess = _input(model)
    return "\n".join([*_facts(file, model, guess), "", *_spec(file, model, guess), ""])


def _input(model: ModelProto) -> _Guess:
    given = networks.inputs_of(model)
    images = [t for t in given if t.shape is None or len(t.shape) == 4] or given
    if not images:
        raise WrapError("the network has no inputs")
    tensor = images[0]
    if tensor.element not in ELEMENTS:
        raise WrapError(f"the input {tensor} has an element type that cannot be wrapped")
    shape = tensor.shape if tensor.shape is not None and len(tensor.shape) == 4 else ("", 3, "", "")
    layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    height, width = shape[1:3] if layout == "NHWC" else shape[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    sizes = [
        (width if isinstance(width, int) else w, height if isinstance(height, int) else h)
        for w, h in _SIZES
    ]
    sizes = list(dict.fromkeys(sizes))
    failure = "it has several inputs" if len(given) > 1 else ""
    for size in sizes if not failure else []:
        noise = np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3))
        values = noise if np.dtype(tensor.dtype).kind in "iu" else noise / 255
        values = values if layout == "NHWC" else values.transpose(0, 3, 1, 2)
        try:
            outputs = networks.run(model, {tensor.name: values.astype(tensor.dtype)}, "it fails")
        except WrapError as error:
            failure = str(error)
        else:
            return _Guess(tensor, layout, size, fixed, outputs, "")
    return _Guess(tensor, layout, sizes[0], fixed, {}, failure)


def _facts(file: Path, model: ModelProto, guess: _Guess) -> Iterator[str]:
    yield (
        f"# {file.name}: opset {networks.opset_of(model)}, {networks.precision(model)},"
        f" {networks.parameters(model) / 1e6:.2f} M weights"
    )
    yield from (f"# input {tensor}" for tensor in networks.inputs_of(model))
    for tensor in networks.outputs_of(model):
        found = guess.outputs.get(tensor.name)
        line = f"# output {tensor}"
        if found is not None:
            width, height = guess.size
            shape = "x".join(map(str, found.shape))
            line += f": {shape}"
            known = found[np.isfinite(found)] if found.dtype.kind in "iuf" else found[:0]
            if known.size:
                low, high = known.min(), known.max()
                line += f", {low:.4g} to {high:.4g} for noise of {width}x{height}"
        yield line
    if guess.failure:
        yield f"# it was not run: {guess.failure}"
    yield "# Check every line that is marked as a guess. docs/wrap.md explains the entries."


def _spec(file: Path, model: ModelProto, guess: _Guess) -> Iterator[str]:
    yield f"name: {json.dumps(file.stem)}"
    yield "terms: unknown  # guess: terms of the weights and of their training data"
    yield "models:"
    yield f"  - file: {json.dumps(str(file))}"
    yield "    input:"
    if len(model.graph.input) > 1:
        yield f"      name: {json.dumps(guess.tensor.name)}"
    yield f"      layout: {guess.layout}"
    yield "      color: rgb  # guess: or bgr"
    yield f"      size: [{guess.size[0]}, {guess.size[1]}]" + ("" if guess.fixed else "  # guess")
    sizes = [n for n in guess.tensor.shape or () if isinstance(n, int) and n > 4]
    if guess.fixed or sizes or guess.size != _SIZES[0]:  # the first size failed
        yield "      fit: letterbox  # guess: or stretch"
        yield "      # pad: 114  # the border's value, with fit: letterbox"
    else:
        yield f"      multiple_of: {_step(guess)}  # guess: or fit: letterbox or stretch"
    yield "      antialias: false  # guess: true if the authors resize with Pillow or torchvision"
    if np.dtype(guess.tensor.dtype).kind in "iu":
        yield "      scale: 1"
    else:
        yield "      scale: 0.00392156862745098  # guess: 1/255, as below the mean of ImageNet"
        yield "      mean: [0.485, 0.456, 0.406]  # guess"
        yield "      std: [0.229, 0.224, 0.225]  # guess"
    yield from _outputs(model, guess)


def _step(guess: _Guess) -> int:
    """A number of which the network's size may be a multiple: 14 for the patches of DINOv2."""
    width, height = guess.size
    rounded = [n // 14 * 14 for n in (height, width)]
    return 14 if any([*y.shape[-2:]] == rounded for y in guess.outputs.values()) else 32


def _outputs(model: ModelProto, guess: _Guess) -> Iterator[str]:
    labels: tuple[str, str, int] | None = None
    depth = sky = ""
    for tensor in networks.outputs_of(model):
        found = guess.outputs.get(tensor.name)
        kind, channels = _kind(tensor, found) if found is None or found.size else ("", 0)
        if channels > 1 and labels is None:
            labels = tensor.name, kind, channels
        elif kind == "depth" and not depth:
            depth = tensor.name
        elif kind == "sky":
            sky = tensor.name
    if labels is not None:
        name, kind, channels = labels
        yield "    labels:"
        yield f"      output: {json.dumps(name)}  # guess"
        yield f"      kind: {kind}  # guess"
    if depth or labels is None:
        name = depth or next(iter(model.graph.output)).name
        yield "    depth:"
        yield f"      output: {json.dumps(name)}  # guess"
        kind = _depth_kind(name, guess.outputs.get(name))
        yield f"      kind: {kind}  # guess: or metric, inverse, disparity, log, ..."
        if kind == "metric":
            yield "      # canonical_fx: 300  # guess: focal length of its camera, if it has one"
            yield "      max: 100  # guess"
        if sky:
            yield f"      sky: {{output: {json.dumps(sky)}, above: 0.5}}  # guess"
    if labels is not None:
        yield from _classes(model, labels[1], labels[2])


def _kind(tensor: Tensor, found: NDArray[Any] | None) -> tuple[str, int]:
    """What an output may be, and how many classes it has; an empty text if nothing is known."""
    name = tensor.name.lower()
    shape = found.shape if found is not None else tensor.shape
    element = found.dtype if found is not None else tensor.dtype
    if str(element) in ("object", "?"):
        return "", 0
    if np.dtype(element).kind in "biu":
        return "ids", max(2, int(found.max()) + 1) if found is not None else 2
    if shape is None:
        return "", 0
    planes = [n for n in (shape[1], shape[-1]) if isinstance(n, int)] if len(shape) == 4 else [1]
    channels = min(planes, default=0)
    if channels == 1:
        if "sky" in name:
            return "sky", 1
        if found is not None and 2 <= found.max() < 256 and (found == np.rint(found)).all():
            return "ids", int(found.max()) + 1
        foreground = re.search(r"seg|mask|label|logit|sem|sigmoid", name)
        if not foreground or "depth" in name:
            return "depth", 1
        shares = found is not None and found.min() >= 0 and found.max() <= 1
        return "probabilities" if shares else "logits", 2
    if channels == 3 and "normal" in name:
        return "", 0
    if found is not None and found.min() >= 0 and found.max() <= 1:
        axis = 1 if found.shape[1] == channels else 3
        if np.allclose(found.sum(axis), 1, atol=1e-2):
            return "probabilities", channels
    return "logits", channels


def _depth_kind(name: str, found: NDArray[Any] | None) -> str:
    for word in ("disp", "inv", "log", "norm"):
        if word in name.lower():
            return {"disp": "disparity", "inv": "inverse", "norm": "normalised"}.get(word, word)
    if found is not None and found.dtype.kind == "f" and found.max(initial=0) > 200:
        return "disparity"  # hardly metres; as of MiDaS
    return "metric"


def _classes(model: ModelProto, kind: str, number: int) -> Iterator[str]:
    names = _names(model)
    if len(names) < number or kind == "ids":
        names = names or [f"class {n}" for n in range(number)]
        yield "classes:  # guess: config/wrap/classes has the lists of Cityscapes and others"
    else:
        yield "classes:  # names from the file; flags are guesses"
    for name in names[: number if kind != "ids" else None]:
        flags = [flag for flag, words in _FLAGS.items() if re.search(words, name.lower())]
        flags += ["obstacle"] if "movable" in flags else []
        more = f", flags: [{', '.join(flags)}]" if flags else ""
        yield f"  - {{name: {json.dumps(name)}{more}}}"


def _names(model: ModelProto) -> list[str]:
    """Class names in the metadata, as Ultralytics writes them: `{0: 'road', 1: ...}`."""
    for entry in model.metadata_props:
        if entry.key in ("names", "classes", "id2label"):
            with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                found = ast.literal_eval(entry.value)
                if isinstance(found, dict):
                    found = [found[key] for key in sorted(found, key=int)]
                if all(isinstance(n, str) and n.isprintable() for n in found):
                    return list(dict.fromkeys(found))
    return []
