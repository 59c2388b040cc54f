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

"""Make a model file from networks and a SPEC."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, helper

from .. import model_card
from ..model_card import MAX_BYTES, DepthRange, ModelCard
from ..texts import one_line, shortened
from . import network as networks
from . import outputs
from .decode import classify, is_class, measure, squeezed, to_uint8
from .network import Tensor
from .nodes import FLOAT, IMAGE, UINT8, Nodes
from .preprocess import ELEMENTS, Fit, fit_of, preprocess
from .schema import WrapError
from .spec import Class, Depth, Labels, Network, Sky, Spec, read_spec

_LOG = logging.getLogger(__name__)
SYSTEM = "wrapped"
"""The system in the card of a wrapped file."""


@dataclass(frozen=True)
class _Opened:
    """A network of a SPEC, read and compared with its file."""

    spec: Network
    title: str
    """For messages, e.g. `models[0] (net.onnx)`."""
    model: ModelProto
    input: Tensor
    layout: str
    fit: Fit
    size: tuple[int, int]
    """Width and height of the input for `probed`."""
    probed: Mapping[str, NDArray[np.generic]]
    """The outputs for one image of noise."""

    @property
    def single_image(self) -> bool:
        """Whether it takes only one image at a time."""
        return self.input.shape is not None and self.input.shape[0] == 1


def wrap(
    spec: Mapping[str, Any] | str | os.PathLike[str], output: str | os.PathLike[str]
) -> ModelCard:
    """Write a model file with one or two networks, as a SPEC describes them.

    The networks, the finished file on images of several sizes, and batches are run once on the CPU.

    Args:
        spec: The SPEC: entries, or the path of a YAML or JSON file.
        output: The model file to write. It is written atomically.

    Returns:
        The card of the file.

    Raises:
        WrapError: The SPEC is wrong, or a network cannot be wrapped.
        OSError: The file cannot be written.
    """
    found = _read(spec)
    for number, each in enumerate(found.models):
        if each.missing:
            raise WrapError(f"models[{number}].file: {each.missing}")
        if Path(output).exists() and each.file.exists() and each.file.samefile(output):
            raise WrapError(f"{output} is the network itself: choose another name for the result")
    loaded = [networks.load(each.file) for each in found.models]
    opset = max(map(networks.needed_opset, loaded))
    opened = [
        _open(each, model, opset, f"models[{number}] ({each.file.name})")
        for number, (each, model) in enumerate(zip(found.models, loaded, strict=True))
    ]
    card = _card(found, opened)
    model = _assemble(found, opened, card, opset)
    if model.ByteSize() >= MAX_BYTES:
        raise WrapError("the model file would have 2 GiB or more, expected less")
    _check_numbers(opened)
    first = _try_out(model, card, opened)
    if not card.single_image and not _separate(model, card, first):
        card = replace(card, single_image=True)
        model = _assemble(found, opened, card, opset)
    _log_values(found, opened, first)
    model_card.write(output, model, card)
    _log_limits(found, card, opset)
    return card


def _read(spec: Mapping[str, Any] | str | os.PathLike[str]) -> Spec:
    """Read a SPEC; every reason that it cannot be read is a `WrapError`."""
    try:
        return read_spec(spec)
    except (OSError, RuntimeError) as error:  # a name is too long, or ~NAME is no user
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise WrapError(f"a file that the SPEC names cannot be opened: {reason}") from None


def _check_numbers(opened: list[_Opened]) -> None:
    """Raise `WrapError` if an output of class numbers has fractions for noise."""
    for number, each in enumerate(opened):
        labels = each.spec.labels
        if labels is None or labels.kind != "ids":
            continue
        found = each.probed[labels.output].astype(np.float64)
        found = found[np.isfinite(found)]
        fraction = np.abs(found - np.round(found))
        if fraction.any():
            raise WrapError(
                f"models[{number}].labels.kind is ids, but the output {shortened(labels.output)}"
                f" has the value {found[fraction.argmax()]:.4g}, expected class numbers: is its"
                " kind probabilities or logits?"
            )


def _log_values(
    spec: Spec, opened: list[_Opened], first: Mapping[str, NDArray[np.generic]]
) -> None:
    """Log results for noise that no right SPEC has; `first`: outputs of the model file."""
    for each in opened:
        if (labels := each.spec.labels) is not None:
            _log_scores(labels, each.probed[labels.output], spec.classes)
        depth = each.spec.depth
        if depth is None or depth.sky is not None:
            continue
        unknown = np.isnan(first["depth"].astype(np.float64))
        sky = [c.card.id for c in spec.classes if "sky" in c.card.flags]
        if sky:
            unknown = unknown[~np.isin(first["labels"], sky)]
        if unknown.size and unknown.mean() > 0.5:
            _LOG.warning(
                "%.0f %% of a noise image have no depth, because it is not positive or more than"
                " max, %g; the output %s was %s: check depth.kind, offset, scale and max",
                *(100 * unknown.mean(), depth.max, shortened(depth.output)),
                _span(each.probed[depth.output]),
            )


def _log_scores(labels: Labels, found: NDArray[Any], classes: tuple[Class, ...]) -> None:
    name, span = shortened(labels.output), _span(found)
    if labels.kind == "ids":
        known = {n for each in classes for n in each.sources} | {*labels.ignore, *labels.drop, 255}
        numbers = np.unique(found[np.isfinite(found)]) if found.dtype.kind == "f" else found
        more = sorted({int(n) for n in np.unique(numbers) if n >= 0} - known)
        if more:
            _LOG.warning(
                "the output %s has class numbers that no class has, e.g. %d: these pixels have no"
                " label; if that is meant, list them in drop",
                *(name, more[-1]),
            )
        return
    known = found[np.isfinite(found)]
    shares = bool(known.size and known.min() >= -0.01 and known.max() <= 1.01)
    if labels.kind == "probabilities" and not shares:
        _LOG.warning("the output %s was %s, not 0 to 1: its kind may be logits", name, span)
    if labels.kind == "logits" and shares:
        sums = [found.sum(axis) for axis in (1, 3)]
        if 1 in (found.shape[1], found.shape[3]) or any(
            np.allclose(total, 1, atol=0.01) for total in sums
        ):
            _LOG.warning("the output %s was %s: its kind may be probabilities", name, span)


def _span(found: NDArray[Any]) -> str:
    known = found[np.isfinite(found)] if found.dtype.kind == "f" else found
    return f"{known.min():.4g} to {known.max():.4g}" if known.size else "not finite"


def _log_limits(spec: Spec, card: ModelCard, opset: int) -> None:
    """Log what a user of the file should know."""
    if card.metric and card.canonical_fx is None:
        _LOG.warning(
            "depth is in metres for cameras like the one that the network was trained with; for"
            " another focal length it is wrong by about the ratio of the two: if you know that"
            " camera, give depth.canonical_fx"
        )
    if card.needs_fx and card.fit.kind == "stretch":
        _LOG.warning(
            "images of another shape than {}x{} are stretched, and depth is scaled by the mean of"
            " both focal lengths; fit: letterbox or multiple_of keeps their shape".format(
                *card.network_size
            )
        )
    if card.single_image:
        _LOG.info("the network takes one image at a time: several cameras run one after the other")
    if opset > networks.OPSET:
        _LOG.warning(
            "the network has operators of opset %d, which older runtimes and TensorRT may not have:"
            " export it with opset %d if you can",
            *(opset, networks.OPSET),
        )


# --- Opening -----------------------------------------------------------------------------------


def _open(spec: Network, model: ModelProto, opset: int, title: str) -> _Opened:
    given = networks.inputs_of(model)
    if spec.input.name and spec.input.name not in [each.name for each in given]:
        names = ", ".join(map(str, given))
        raise WrapError(f"{title} has no input {spec.input.name}, but {names}")
    if len(given) != 1:
        names = ", ".join(map(str, given)) or "none"
        raise WrapError(f"{title} has the inputs {names}, expected one input, an image")
    (taken,) = given
    layout = _input_layout(spec, taken, title)
    fit = fit_of(spec.input, _fixed_size(spec, taken, layout, title))
    _check_values(spec, taken, title)
    size = fit.card.size_for(*fit.size, fit.size)
    image = _probe_image(spec, taken, layout, size)
    what = f"{title} fails for an image of {size[0]}x{size[1]}"
    changed = networks.to_opset(_copy(model), opset, spec.file)
    probed = networks.run(changed, {taken.name: image}, what)
    before = None
    if networks.opset_of(model) != opset:
        try:
            before = networks.run(model, {taken.name: image}, what)
        except WrapError:  # of a newer opset than this ONNX Runtime reads
            if networks.opset_of(model) < opset:
                raise
    if before is not None:
        _compare(before, probed, model, opset, title)
    return _Opened(spec, title, changed, taken, layout, fit, size, probed)


def _copy(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def _input_layout(spec: Network, taken: Tensor, title: str) -> str:
    """The layout of the input, from the SPEC or the file's shape."""
    shape, layout = taken.shape, spec.input.layout
    if shape is None:
        if not layout:
            raise WrapError(f"{title}: the input {taken} has an unknown shape: add layout")
        return layout
    if len(shape) != 4:
        raise WrapError(
            f"{title}: the input {taken} has {len(shape)} axes, expected 4 with 3 channels"
        )
    places = {"NCHW": shape[1], "NHWC": shape[3]}
    if not layout:
        fitting = [name for name, channels in places.items() if channels == 3]
        if not fitting:
            raise WrapError(
                f"{title}: the input {taken} has no axis of 3 channels, expected a network for"
                " images in color; if the file does not give its channels, add layout"
            )
        if len(fitting) > 1:
            raise WrapError(f"{title}: the input {taken} may be NCHW or NHWC: add layout")
        layout = fitting[0]
    channels = places[layout]
    if isinstance(channels, int) and channels != 3:
        raise WrapError(
            f"{title}: the input {taken} has {channels} channels in the layout {layout}, expected 3"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise WrapError(f"{title}: the input {taken} has a batch of {shape[0]}, expected 1 or any")
    return layout


def _fixed_size(spec: Network, taken: Tensor, layout: str, title: str) -> tuple[int, int] | None:
    """Width and height, if the file or the SPEC fixes them."""
    own: tuple[int | str, int | str] = ("", "")
    if taken.shape is not None:
        height, width = taken.shape[2:] if layout == "NCHW" else taken.shape[1:3]
        own = width, height
    fixed = [n for n in own if isinstance(n, int)]
    size = spec.input.size
    if spec.input.multiple_of:
        if fixed:
            raise WrapError(
                f"{title}: the input {taken} has a fixed size, which multiple_of cannot have:"
                " use fit: letterbox or fit: stretch"
            )
        return None
    if isinstance(size, tuple):
        if any(isinstance(n, int) and n != m for n, m in zip(own, size, strict=True)):
            raise WrapError(
                f"{title}: input.size is {size[0]}x{size[1]} (width x height), but the input"
                f" {taken} has {own[0] or '?'}x{own[1] or '?'}"
            )
        return size
    if len(fixed) != 2:
        raise WrapError(f"{title}: input.size is missing, and the input {taken} has none itself")
    return fixed[0], fixed[1]


def _check_values(spec: Network, taken: Tensor, title: str) -> None:
    if taken.element not in ELEMENTS:
        raise WrapError(f"{title}: the input {taken} has an element type that cannot be wrapped")
    if spec.input.dtype and spec.input.dtype != taken.dtype:
        raise WrapError(
            f"{title}: input.dtype is {spec.input.dtype}, but the input is {taken.dtype}"
        )
    kind = np.dtype(taken.dtype)
    mean, std = np.array(spec.input.mean), np.array(spec.input.std)
    values = np.stack([(v * spec.input.scale - mean) / std for v in (0, 255)])
    given = f"scale, mean and std give values from {values.min():g} to {values.max():g}"
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if values.min() < limits.min or values.max() > limits.max or np.ptp(values) < 100:
            raise WrapError(
                f"{title}: the input is {taken.dtype}, but {given}; for an input that takes the"
                " image's own values, scale is 1"
            )
        return
    most, span = np.abs(values).max(), np.ptp(values, 0).min()
    if not (most < 60000 and span > 1e-5):  # of float16
        raise WrapError(f"{title}: {given}, expected a range like 0 to 1, -2 to 3 or 0 to 255")
    if most > 300 or span < 0.3:
        _LOG.warning(
            "%s: %s: mean and std may be of values 0 to 255 and scale 1/255, or the reverse",
            *(title, given),
        )


def _probe_image(
    spec: Network, taken: Tensor, layout: str, size: tuple[int, int]
) -> NDArray[np.generic]:
    """A noise image as the network takes it."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3))
    values = (noise * spec.input.scale - np.array(spec.input.mean)) / np.array(spec.input.std)
    values = values if layout == "NHWC" else values.transpose(0, 3, 1, 2)
    kind = np.dtype(taken.dtype)
    return np.ascontiguousarray((values.round() if kind.kind in "iu" else values).astype(kind))


def _compare(
    before: Mapping[str, NDArray[np.generic]],
    after: Mapping[str, NDArray[np.generic]],
    model: ModelProto,
    opset: int,
    title: str,
) -> None:
    """Compare the outputs of a network before and after a change of opset."""
    for name, old in before.items():
        new = after[name]
        same = old.shape == new.shape
        if same and old.dtype.kind == "f":
            same = bool(np.allclose(old, new, rtol=0, atol=_limit(old), equal_nan=True))
        elif same:
            same = bool(np.mean(old == new) > 0.999)
        if not same:
            raise WrapError(
                f"{title}: its output {name} changes when opset {networks.opset_of(model)} is"
                f" converted to {opset}: export the network with opset {opset}"
            )


def _limit(values: NDArray[Any]) -> float:
    """The difference up to which two results are equal: a thousandth of the largest value."""
    return 1e-3 * float(np.max(np.abs(values[np.isfinite(values)]), initial=0))


# --- Card --------------------------------------------------------------------------------------


def _card(spec: Spec, opened: list[_Opened]) -> ModelCard:
    of_depth = [each for each in opened if each.spec.depth is not None]
    main = (of_depth or opened)[0]
    depth = main.spec.depth
    precisions = {networks.precision(each.model) for each in opened}
    return ModelCard(
        name=spec.name,
        system=SYSTEM,
        classes=tuple(each.card for each in spec.classes),
        depth=DepthRange(depth.card_kind, depth.min, depth.max) if depth else None,
        network_size=main.fit.size,
        canonical_fx=depth.canonical_fx if depth else None,
        trained_on=spec.trained_on,
        terms=spec.terms,
        precision=next(p for p in ("int8", "fp16", "fp32") if p in precisions),
        parameters=sum(networks.parameters(each.model) for each in opened),
        tools={name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")},
        fit=main.fit.card,
        single_image=any(each.single_image for each in opened),
    )


# --- Graph -------------------------------------------------------------------------------------


def _assemble(spec: Spec, opened: list[_Opened], card: ModelCard, opset: int) -> ModelProto:
    """The whole graph, from the image to the outputs of the card."""
    nodes = Nodes()
    inner, results = [], {}
    labels = None
    for number, each in sorted(enumerate(opened), key=lambda pair: pair[1].spec.labels is None):
        # Labels first, because depth depends on the sky in them.
        element = each.input.element
        if element == UINT8 and networks.takes_float(each.model.graph, each.input.name):
            element = FLOAT
        frame, taken = preprocess(nodes, each.spec.input, each.fit, each.layout, element)
        graph = networks.renamed(each.model.graph, f"network{number}/", {each.input.name: taken})
        nodes.nodes.extend(graph.node)
        inner.append(graph)
        if (wanted := each.spec.labels) is not None:
            source = _source(each, number, wanted, "labels.output")
            wanted = replace(wanted, layout=_layout(wanted, source, spec.classes))
            if wanted.kind == "ids":
                output, channels = outputs.plane(nodes, source, wanted.layout, frame), 1
            else:
                output, channels = outputs.channels(nodes, source, wanted, spec.classes, frame)
            labels, confidence = classify(output, wanted, spec.classes, channels)
            results["labels"] = to_uint8(nodes, labels)
            results["confidence"] = to_uint8(nodes, confidence, share=True)
        if (depth := each.spec.depth) is not None:
            source = _source(each, number, depth, "depth.output")
            output = outputs.plane(nodes, source, depth.layout, frame)
            sky = None
            if depth.sky is not None:
                source = _source(each, number, depth.sky, "depth.sky.output")
                sky = outputs.plane(nodes, source, depth.sky.layout, frame)
            ids = [c.card.id for c in spec.classes if "sky" in c.card.flags]
            hidden = is_class(nodes, labels, ids) if labels else None
            fx = "fx" if card.needs_fx else None
            results["depth"] = squeezed(nodes, measure(output, depth, fx, sky, hidden))
    for name, value in results.items():
        nodes.rename(value, name)
    return _model(nodes, inner, card, opset)


def _model(nodes: Nodes, inner: list[GraphProto], card: ModelCard, opset: int) -> ModelProto:
    batch = 1 if card.single_image else "N"
    shape = [batch, "H", "W"]
    inputs = [helper.make_tensor_value_info(IMAGE, UINT8, [*shape, 3])]
    if card.needs_fx:
        inputs.append(helper.make_tensor_value_info("fx", FLOAT, [batch]))
    kinds = {"labels": UINT8, "confidence": UINT8, "depth": FLOAT}
    results = [helper.make_tensor_value_info(n, kinds[n], shape) for n in card.outputs]
    graph = helper.make_graph(nodes.nodes, "depthseg", inputs, results, nodes.constants)
    for each in inner:
        graph.initializer.extend(each.initializer)
        graph.sparse_initializer.extend(each.sparse_initializer)
    networks.remove_unused(graph)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="depthseg_ros"
    )
    model.ir_version = networks.ir_version(opset)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise WrapError(f"the merged graph is not valid: {shortened(str(error), 300)}") from None
    return model


def _source(each: _Opened, number: int, wanted: Labels | Depth | Sky, entry: str) -> outputs.Source:
    name = wanted.output
    if name not in each.probed:
        names = ", ".join(map(str, networks.outputs_of(each.model)))
        raise WrapError(f"{each.title}: {entry} is {name}, but the outputs are {names}")
    array = each.probed[name]
    title = f"{each.title}: {entry} {name}"
    is_ids = isinstance(wanted, Labels) and wanted.kind == "ids"
    kept = networks.before_casts(each.model.graph, name) if is_ids else name
    if kept != name:
        array = array.astype(np.int64)
    source = outputs.Source(title, f"network{number}/{kept}", array, each.size)
    sides = [n for n in array.shape if n != 1]
    if (is_ids or not isinstance(wanted, Labels)) and len(sides) <= 2:
        columns, rows = each.size
        if len(sides) < 2 and 1 not in (columns, rows):
            raise _no_image(source)
        if len(sides) == 2 and not _fits(sides[1], sides[0], source, bool(wanted.layout)):
            raise _no_image(source)
    return source


def _layout(wanted: Labels, source: outputs.Source, classes: Sequence[Class]) -> str:
    """The layout of channels, if the shape shows it, because the image has the input's aspect.

    Raises:
        WrapError: There is none, or both layouts would do.
    """
    shape = source.array.shape
    if wanted.kind == "ids" or len(shape) != 4:
        return wanted.layout
    sizes = {"NCHW": (shape[3], shape[2]), "NHWC": (shape[2], shape[1])}
    given = [wanted.layout] if wanted.layout else list(sizes)
    fitting = [layout for layout in given if _fits(*sizes[layout], source, bool(wanted.layout))]
    if not fitting:
        raise _no_image(source)
    if len(fitting) > 1:
        raise WrapError(f"{source.title} has the shape {source.shape}: add layout")
    return fitting[0]


def _fits(width: int, height: int, source: outputs.Source, known: bool) -> bool:
    """Whether an output can be an image of the input.

    It has the input's aspect ratio, but for rounding. If the SPEC gives the layout (`known`), the
    output may be stretched (Mask2Former's are 384x384), but not have its axes exchanged.
    """
    columns, rows = source.size
    if (width == 1 < columns) or (height == 1 < rows):
        return False
    if columns == rows:  # both are rounded alike
        return known or width == height
    if abs(width * rows - height * columns) <= columns + rows:
        return True
    return known and abs(width * columns - height * rows) > columns + rows


def _no_image(source: outputs.Source) -> WrapError:
    return WrapError(
        f"{source.title} has the shape {source.shape} for an input of"
        f" {source.size[0]}x{source.size[1]} (width x height), expected an image of the same"
        " aspect ratio: check output and layout; if it is an image that is stretched, give its"
        " layout"
    )


def _try_out(
    model: ModelProto, card: ModelCard, opened: list[_Opened]
) -> dict[str, NDArray[np.generic]]:
    """Run the file on images of several shapes; returns its outputs for one of the card's size.

    Raises:
        WrapError: It fails, or an output is not of the image's size.
    """
    width, height = card.network_size
    first = _outputs(model, card, _noise(width, height)[:1])
    _outputs(model, card, _noise(height, width)[:1])
    for each in opened:
        for size in _one_step_more(each.fit, width, height):
            try:
                _outputs(model, card, _noise(*size)[:1])
            except WrapError as error:
                raise WrapError(
                    f"{error}; {each.title}: if it cannot take every multiple of"
                    f" {each.fit.card.multiple_of}, give a larger input.multiple_of, or"
                    " fit: letterbox or stretch"
                ) from None
    return first


def _one_step_more(fit: Fit, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Sizes of images with one step more at a side of the network's input, if it has steps.

    A network that needs a multiple of the step fails for them.
    """
    step = fit.card.multiple_of
    before = fit.card.size_for(width, height, fit.size)
    for axis in (0, 1) if step > 1 else ():
        for number in range(1, 9):
            size = (width + number * step, height) if axis == 0 else (width, height + number * step)
            after = fit.card.size_for(*size, fit.size)
            if (after[axis] - before[axis]) // step % 2:
                yield size
                break


def _separate(model: ModelProto, card: ModelCard, first: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether each image of a batch has the results that it has alone, as `first` has."""
    noise = _noise(*card.network_size)
    try:
        both = _outputs(model, card, noise)
    except WrapError:
        return False
    alone = first, _outputs(model, card, noise[1:])
    return all(
        _agree(name, result[name][0], both[name][n])
        for n, result in enumerate(alone)
        for name in both
    )


def _noise(width: int, height: int) -> NDArray[np.uint8]:
    """Two noise images, of which the second is darker, as (2, height, width, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    noise[1] //= 4
    return noise


def _outputs(
    model: ModelProto, card: ModelCard, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.generic]]:
    number, height, width, _ = images.shape
    feeds: dict[str, NDArray[Any]] = {IMAGE: images}
    if card.needs_fx:
        feeds["fx"] = np.full(number, width, np.float32)
    size = f"{width}x{height}"
    result = networks.run(model, feeds, f"the model file fails for an image of {size}")
    for name, array in result.items():
        if array.shape != (number, height, width):
            raise WrapError(
                f"{name} has the shape {array.shape} for {number} images of {size}: the network's"
                " outputs do not follow its input"
            )
    return result


def _agree(name: str, first: NDArray[Any], second: NDArray[Any]) -> bool:
    if first.dtype.kind == "f":
        close = np.isclose(first, second, rtol=0, atol=_limit(first), equal_nan=True)
    else:
        close = np.abs(first.astype(int) - second) <= (name == "confidence")
    return bool(np.mean(close) > 0.999)
