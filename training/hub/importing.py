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

"""Convert networks of the hub to one model file.

A network is exported at the size that its image processor uses for `image_size`. Then
`depthseg_ros.wrap` adds preprocessing and decoding. To find preprocessing steps that are not
translated, the output of the image processor for an example image is compared with that of the
translated preprocessing.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from depthseg_ros.model_card import MAX_BYTES, MAX_NAME, ModelCard
from depthseg_ros.wrap import wrap

from ..data.teacher_terms import TERMS
from ..errors import TrainingError
from ..export.model_file import IR_VERSION, OPSET, store_weights_as_half
from .class_names import class_entries
from .loading import licence
from .networks import Depth, HubNetwork, Labels, load_depth, load_labels

IMAGE_SIZE = (640, 480)
"""Default width and height of the camera's images."""
TOLERANCE = 0.05
"""An image is stretched by at most this, otherwise it gets a border. Image processors stretch
images, too, because sizes must be multiples of 14 or 32."""

_LIMIT = 2.5
"""Allowed difference from the image processor's values, grey levels: Pillow's weights are integers,
and some processors do not round."""


def import_model(
    depth: str | None,
    segmentation: str | None,
    output: Path,
    classes: Path | None = None,
    image_size: tuple[int, int] = IMAGE_SIZE,
    depth_kind: str | None = None,
    report: Callable[[str], None] = print,
) -> ModelCard:
    """Convert one or two networks to a model file.

    Args:
        depth: A network for depth: a name on the hub or a folder.
        segmentation: A network for semantic segmentation.
        output: The .onnx to write.
        classes: A file with classes for the SPEC, instead of the network's own names.
        image_size: Width and height of the camera's images.
        depth_kind: One of `networks.DEPTH_KINDS`, if the network does not give it.
        report: Called with each line for the user.

    Returns:
        The card of the file.

    Raises:
        TrainingError: A network cannot be loaded, translated or exported.
        WrapError: It cannot be wrapped.
    """
    networks: list[HubNetwork] = []
    if segmentation is not None:
        networks.append(load_labels(segmentation))
    if depth is not None:
        networks.append(load_depth(depth, depth_kind))
    names = [_short(network) for network in networks]
    spec: dict[str, Any] = {"name": " + ".join(names)[:MAX_NAME], "models": []}
    spec |= _terms(networks, report)
    count = sum(p.numel() for network in networks for p in network.parameters())
    halved = 4 * count > 0.95 * MAX_BYTES
    if halved:
        report(
            f"{count / 1e9:.1f} billion weights are stored as fp16: the file has less than 2 GiB"
        )
    with tempfile.TemporaryDirectory() as folder:
        for number, network in enumerate(networks):
            spec_input = input_of(network, image_size)
            model = to_onnx(network, *network.input_size(image_size[1], image_size[0]))
            if halved:
                store_weights_as_half(model)
            file = Path(folder) / f"network{number}.onnx"
            onnx.save(model, file)
            entry: dict[str, Any] = {"file": str(file), "input": spec_input}
            if isinstance(network, Labels):
                entry["labels"] = {
                    "output": network.outputs[0],
                    "kind": network.kind,
                    "layout": "NCHW",
                }
                entries, line = class_entries(network.names)
                spec["classes"] = str(classes) if classes is not None else entries
                report(line if classes is None else f"classes and flags from {classes}")
            else:
                assert isinstance(network, Depth)
                entry["depth"] = _depth_of(network)
                report(_about_depth(network))
            report(_about_size(network, spec_input, image_size))
            spec["models"].append(entry)
        return wrap(spec, output)


def to_onnx(network: HubNetwork, height: int, width: int) -> onnx.ModelProto:
    """Export a network at one size; raises `TrainingError`."""
    example = torch.zeros(1, 3, height, width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network(example)  # computes what is cached per size, so that it is not in the graph
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["pixel_values"],
                output_names=list(network.outputs),
                verbose=False,
            )
    except Exception as error:  # torch, transformers and onnxscript raise errors of any kind
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), "")
        raise TrainingError(
            f"{network.name} ({network.family}) at {width}x{height} cannot be exported to ONNX:"
            f" {reason or type(cause).__name__}"
        ) from None
    assert program is not None  # only without dynamo
    model = program.model_proto
    model.ir_version = IR_VERSION
    return model


# --- Input ----------------------------------------------------------------------------------------


def input_of(network: HubNetwork, image_size: tuple[int, int]) -> dict[str, Any]:
    """Translate the image processor to `input` of a SPEC.

    Args:
        network: The network.
        image_size: Width and height of the camera's images.

    Raises:
        TrainingError: A part of the image processor cannot be translated.
    """
    width, height = image_size
    entries = network.input_entries()
    size = network.input_size(height, width)
    # Some processors stretch every image to one size; others keep its shape.
    keeps = network.input_size(height, 2 * width) != size
    fit = {"fit": "letterbox", "tolerance": TOLERANCE} if keeps else {"fit": "stretch"}
    if network.processor.run is not None:
        _compare(network, entries, size, image_size)
    return {"name": "pixel_values", "size": [size[1], size[0]], **fit, **entries}


def _compare(
    network: HubNetwork, entries: dict[str, Any], size: tuple[int, int], image_size: tuple[int, int]
) -> None:
    """Compare the image processor's values with the file's; raises `TrainingError`."""
    image = example_image(*image_size)
    expected = network.processed(image)
    found = network.prepare(translated(image, entries, size))
    settings = ", ".join(k for k, v in network.settings.items() if k.startswith("do_") and v)
    wrong = f"{network.name}: its image processor ({settings}) cannot be translated"
    if found.shape != expected.shape:
        shapes = [f"{s[3]}x{s[2]}" for s in (expected.shape, found.shape)]
        raise TrainingError(f"{wrong}: it resizes the image to {shapes[0]}, expected {shapes[1]}")
    std = network.settings.get("image_std") if network.on("do_normalize") else None
    unit = float(entries["scale"]) / torch.tensor(1.0 if std is None else std).view(-1, 1, 1)
    difference = float(((found - expected) / unit).abs().max())
    if difference > _LIMIT:
        raise TrainingError(f"{wrong}: values differ by {difference:.0f} of 255")


def translated(
    image_HW3: NDArray[np.uint8], entries: dict[str, Any], size: tuple[int, int]
) -> Tensor:
    """Compute `pixel_values`, (1, 3, h, w), as `input` of a SPEC describes."""
    values = torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float()
    mode = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest-exact"}[entries["resize"]]
    # Like Pillow: resize the columns first, and round after each direction.
    steps = [(values.shape[2], size[1]), size] if entries["antialias"] else [size]
    for step in steps:
        if tuple(values.shape[2:]) != step:
            values = F.interpolate(values, step, mode=mode, antialias=bool(entries["antialias"]))
            values = (values + 0.5).floor().clamp(0, 255) if entries["round"] else values
    values = values.flip(1) if entries["color"] == "bgr" else values
    mean, std = (
        torch.tensor(entries.get(k, d)).view(-1, 1, 1) for k, d in (("mean", 0), ("std", 1))
    )
    return (values * entries["scale"] - mean) / std


def example_image(width: int, height: int) -> NDArray[np.uint8]:
    """Draw an image with gradients and edges in all channels, uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = [np.sin(9 * x + 4 * y), np.cos(7 * y - 5 * x), np.sin(11 * x * y + 1)]
    image = 128 + 90 * np.stack(waves, 2)
    image[height // 4 : height // 2, width // 3 : width // 2] = (30, 200, 90)
    return image.astype(np.uint8)


# --- Depth, terms, lines --------------------------------------------------------------------------


def _depth_of(network: Depth) -> dict[str, Any]:
    """Build `depth` of a SPEC."""
    entry: dict[str, Any] = {"output": "depth", "resize": network.enlarged_by}
    if network.inverse_metric:
        entry |= {"kind": "inverse", "metric": True}
    else:
        entry["kind"] = {"inverse": "disparity"}.get(network.kind, network.kind)
    if network.canonical_fx is not None:
        entry["canonical_fx"] = network.canonical_fx
    if network.max is not None:
        entry["max"] = network.max
    if network.sky is not None:
        entry["sky"] = {"output": "sky", "above": network.sky}
    return entry


def _about_depth(network: Depth) -> str:
    """Describe the kind of depth in one line."""
    if network.kind == "inverse":
        return (
            "depth up to scale: inverse depth with an unknown offset; it becomes metric by the"
            " camera's height, and far depth is less certain"
        )
    if network.kind == "up-to-scale":
        return "depth up to scale: it becomes metric by the camera's height"
    if network.canonical_fx is not None:
        return (
            f"metric depth for any camera: output x focal length / {network.canonical_fx:g}"
            " (pixels at the network's size)"
        )
    if network.inverse_metric:
        return (
            "metric depth by the field of view that the network estimates: it does not use the"
            " camera's calibration, and is wrong by the error of that estimate"
        )
    most = f" up to {network.max:g} m" if network.max else ""
    return (
        f"metric depth{most} for cameras like the one it was trained with: the network does not"
        " know the focal length, so with another camera all depth is wrong by about the ratio of"
        " the focal lengths (in pixels at one image size): compare it with a known distance"
    )


def _about_size(network: HubNetwork, entry: dict[str, Any], image_size: tuple[int, int]) -> str:
    """Describe the network's input size in one line."""
    width, height = entry["size"]
    others = "every image is stretched to it, as in transformers"
    if entry["fit"] == "letterbox":
        others = (
            f"for images of {image_size[0]}:{image_size[1]}; others get a border (--image-size)"
        )
    return f"{network.family} runs at {width}x{height}, {others}"


def _short(network: HubNetwork) -> str:
    """The last part of the name, also for the folder `.`."""
    return Path(network.name).resolve().name


def _terms(networks: list[HubNetwork], report: Callable[[str], None]) -> dict[str, Any]:
    """Build `terms` and `trained_on` of a SPEC."""
    terms, trained_on = [], []
    for network in networks:
        own = licence(network.name)
        if warning := own.warning(network.name):
            report(f"WARNING: {warning}")
        text = f"{_short(network)}: licence {own.name or 'unknown'}"
        if known := TERMS.get(network.name):
            if "non-commercial" in known:
                report(f"WARNING: {network.name} {known}")
            text += f"; {known}"
        terms.append(text)
        trained_on += [name for name in own.datasets if name not in trained_on]
    return {"terms": "; ".join(terms), **({"trained_on": trained_on} if trained_on else {})}
