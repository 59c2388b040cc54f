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

"""`python -m benchmarks.image_quality`: how often issues are false, and how often missed.

Good images are rendered streets, CamVid's and redkitchen's where they are; bad ones are made
from these. The thresholds of `depthseg_ros.derived.image_quality` are chosen on one half
(`--half choose`, which shows the measures, too), the rates that are reported come from the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import run
from depthseg_ros import model_card, street
from depthseg_ros.derived import image_quality
from depthseg_ros.perception import Perception
from training.data.synthetic.rendered import FIRST_SEED

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RATE = 30.0
"""Images per second of what is shown in turn."""
ImageArray = NDArray[np.uint8]


def streets(half: str, count: int) -> Iterator[ImageArray]:
    """Rendered streets that no training has seen."""
    first = FIRST_SEED["val" if half == "choose" else "test"]
    return (street.Street(first + i).frame(0).image for i in range(count))


def photographs(half: str, count: int, pattern: str) -> Iterator[ImageArray]:
    """The first or the second half of the images of a data set, evenly subsampled to `count`."""
    files = sorted(SHARED.glob(pattern))
    middle = len(files) // 2
    files = files[:middle] if half == "choose" else files[middle:]
    for i in range(min(count, len(files))):
        yield cv2.imread(str(files[i * len(files) // min(count, len(files))]))[..., ::-1].copy()


# --- What goes wrong ----------------------------------------------------------------------------


def noisy(image: Any, rng: np.random.Generator, sigma: float) -> ImageArray:
    """A image under noise of so many grey levels."""
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def covered(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """A finger or cloth before the lens: one colour, out of focus, lit more from one side."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 1 + 0.5 * (x * np.cos(angle) + y * np.sin(angle))
    return noisy(light[..., None] * rng.uniform(40, 160, 3), rng, 2)


def fogged(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """A film of water or grease: blur, and a third of the contrast."""
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[1] / rng.uniform(25, 50))
    return noisy(150 + 0.3 * (blurred - blurred.mean()), rng, 2)


def texture(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Coloured clouds of all sizes, of no world at all."""
    height, width = image.shape[:2]
    clouds: Any = np.zeros(image.shape, np.float32)
    for octave in range(2, 8):
        cells = rng.standard_normal((2**octave, 2**octave, 3)).astype(np.float32)
        clouds += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 0.8**octave
    return np.clip(128 + 50 * clouds / clouds.std(), 0, 255).astype(np.uint8)


Spoil = Callable[[ImageArray, np.random.Generator], ImageArray]
SPOILT: dict[str, tuple[str, Spoil]] = {
    "black": ("dark", lambda p, rng: np.zeros_like(p)),
    "3 % of the light, noise of 3": ("dark", lambda p, rng: noisy(0.03 * p, rng, 3)),
    "exposed 4 times": ("over-exposed", lambda p, rng: noisy(4.0 * p, rng, 2)),
    "exposed 8 times": ("over-exposed", lambda p, rng: noisy(8.0 * p, rng, 2)),
    "finger or cloth": ("covered", covered),
    "fogged lens": ("covered", fogged),
    "noise of 60": ("noisy", lambda p, rng: noisy(p, rng, 60)),
    "coloured clouds": ("low confidence", texture),
    "turned upside down": ("low confidence", lambda p, rng: p[::-1, ::-1].copy()),
}
"""Kind -> the expected issue, and how to make it from a good image."""


def test_images(half: str, count: int) -> Iterator[tuple[str, str, ImageArray]]:
    """Kind, the expected issue or "", and image."""
    good = {
        "streets": list(streets(half, count)),
        "CamVid": list(photographs(half, count, "camvid/val/*")),
        "redkitchen": list(photographs(half, count, "redkitchen/*.color.jpg")),
    }
    for name, images in good.items():
        for image in images:
            yield name, "low confidence" if name == "redkitchen" else "", image
    sources = [image for images in good.values() for image in images]
    outdoors = good["streets"] + good["CamVid"]
    rng = np.random.default_rng(0 if half == "choose" else 1)
    for kind, (issue, spoil) in SPOILT.items():
        chosen = outdoors if issue == "low confidence" else sources
        for i in range(count):
            yield kind, issue, spoil(chosen[i * len(chosen) // count], rng)


def shown_in_turn(half: str, count: int) -> Iterator[tuple[str, str, Iterator[ImageArray]]]:
    """Kind, the expected issue or "", and two seconds of images."""
    rng = np.random.default_rng(0 if half == "choose" else 1)
    length = int(2 * RATE)
    first = FIRST_SEED["val" if half == "choose" else "test"]
    for i in range(count):
        drive = street.Street(first + i, 320, 240)
        still = drive.frame(0).image
        yield "a drive", "", (drive.frame(k).image for k in range(length))
        noise = (noisy(still, rng, 0.5) for _ in range(length))
        yield "a parked camera, noise of 0.5", "", noise
        yield "each image twice", "", (drive.frame(k // 2).image for k in range(length))
        yield "one image", "frozen", (still for _ in range(length))


# --- What is found ------------------------------------------------------------------------------


def measure(half: str, count: int, quiet: bool) -> dict[str, Any]:
    """Kind -> how many images or videos, the expected issue, shares of issues, the measures."""
    perception = Perception(model_card.default_model(), threads=1)
    results: dict[str, Any] = {}

    def note(
        kind: str, expected: str, found: set[str], measured: image_quality.Measurements | None
    ) -> None:
        new = {"count": 0, "expected": expected, "found": {}, "any": 0, "measurements": []}
        entry = results.setdefault(kind, new)
        entry["count"] += 1
        entry["any"] += bool(found)
        entry["measurements"] += [measured] if measured else []
        for name in found:
            entry["found"][name] = entry["found"].get(name, 0) + 1

    for kind, expected, image in track(
        test_images(half, count), "images", transient=True, disable=quiet
    ):
        confidence = perception(image, float(image.shape[1])).confidence
        found = image_quality.ImageQuality().issues(image, confidence, 0.0)
        note(kind, expected, set(found), image_quality.measure(image, confidence))
    for kind, expected, video in shown_in_turn(half, max(1, count // 10)):
        camera = image_quality.ImageQuality()
        reported = (camera.issues(image, None, i / RATE) for i, image in enumerate(video))
        note(kind, expected, {name for names in reported for name in names}, None)
    return results


def draw(half: str, path: Path) -> None:
    """A sheet of rendered streets, each spoilt in another way, under it what was found."""
    rng = np.random.default_rng(0)
    kinds = {"as it should be": ("", lambda image, rng: image), **SPOILT}
    shown = zip(kinds.items(), streets(half, len(kinds)), strict=True)
    sheet = [(kind, issue, spoil(image, rng)) for (kind, (issue, spoil)), image in shown]
    perception = Perception(model_card.default_model())
    columns = 5
    rows = -(-len(sheet) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3 * columns, 2.75 * rows), layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, (kind, expected, image) in zip(axes.flat, sheet, strict=False):
        confidence = perception(image, float(image.shape[1])).confidence
        found = image_quality.ImageQuality().issues(image, confidence, 0.0)
        right = expected in found if expected else not found
        ax.imshow(image, aspect="auto")
        ax.set_title(kind, fontsize=11)
        text = ", ".join(found) or "no issue"
        ax.text(
            0.5,
            -0.03,
            text,
            transform=ax.transAxes,
            ha="center",
            va="top",
            fontsize=11,
            color="tab:green" if right else "tab:red",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def milliseconds() -> float:
    """The median time of one image of 640 x 480 with its confidence."""
    image = street.Street(FIRST_SEED["test"]).frame(0).image
    images = [image, noisy(image, np.random.default_rng(0), 2)]
    confidence = np.full(image.shape[:2], 200, np.uint8)
    camera = image_quality.ImageQuality()
    times = timeit.repeat(
        lambda: [camera.issues(image, confidence, 0.0) for image in images], number=1, repeat=500
    )
    return float(np.median(times)) * 1000 / len(images)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_quality", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="images a kind (default: 50)")
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="draw one image of each kind, and nothing else"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count: at least 1")
    cv2.setNumThreads(1)
    if options.sheet:
        draw(options.half, options.sheet)
        return
    results = measure(options.half, options.count, options.json)
    spent = milliseconds()
    if options.json:
        for entry in results.values():
            entry["measurements"] = [look._asdict() for look in entry["measurements"]]
        print(json.dumps({"kinds": results, "milliseconds": spent}, indent=2))
        return
    console = Console()
    names = ("dark", "over-exposed", "covered", "noisy", "frozen", "low confidence")
    table = Table("half: " + options.half, "", *names, "any issue, %", "false or missed, %")
    for kind, entry in results.items():
        expected, count = entry["expected"], entry["count"]
        share = {name: 100 * entry["found"].get(name, 0) / count for name in names}
        wrong = 100 - share[expected] if expected else 100 * entry["any"] / count
        cells = (f"{share[name]:.0f}" if share[name] else "" for name in names)
        table.add_row(kind, str(count), *cells, f"{100 * entry['any'] / count:.0f}", f"{wrong:.0f}")
    console.print(table)
    console.print(f"{spent:.2f} ms per image of 640 x 480 (median)")
    if options.half == "choose":
        measures = Table("1st, 50th and 99th percentile", *image_quality.Measurements._fields)
        for kind, entry in results.items():
            if entry["measurements"]:
                cuts = np.percentile(np.array(entry["measurements"]), (1, 50, 99), axis=0).T
                measures.add_row(kind, *(" ".join(f"{v:.3g}" for v in cut) for cut in cuts))
        console.print(measures)


if __name__ == "__main__":
    sys.exit(run("image_quality", main))
