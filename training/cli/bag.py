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

"""`python -m training bag`: convert recordings of a robot to a data set of images.

Frames are taken at a fixed interval. Frames that are similar to the one before are skipped, for
example when the robot stands. Each frame has its stamp, its camera, the images shortly before and
after, and ground truth from the bag, for example of an RGB-D camera. Frames are written in parts
(`data.shards`). A part is complete or absent, so the same command resumes after the last one.
"""

from __future__ import annotations

import argparse
import errno
import math
from pathlib import Path

from ..errors import TrainingError
from ..own_robot.dataset_writer import DatasetWriter
from ..own_robot.recordings import Recording
from ..own_robot.selection import choose_topics, warn


def main(arguments: list[str]) -> None:
    """Write the frames of bags; print one line per bag, with what could not be read."""
    parser = argparse.ArgumentParser(prog="python -m training bag", description=__doc__)
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="BAG",
        help="rosbag2: folders, or .mcap or .db3",
    )
    add("--output", type=Path, required=True, metavar="DATASET", help="to write or to resume")
    add("--topic", help="image topic, if the bags have several")
    add("--camera-info-topic", metavar="TOPIC", help="default: camera_info beside the image topic")
    add("--depth-topic", metavar="TOPIC", help="measured depth of the same view: ground truth")
    add("--labels-topic", metavar="TOPIC", help="class ids of the same view: ground truth")
    add(
        "--every",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="interval between frames (default: 0.5)",
    )
    add(
        "--change",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="minimum difference of consecutive frames, as a share of the grey range"
        " (default: 0.02)",
    )
    add(
        "--neighbours",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="interval to the images before and after each frame (default: 0.1; 0: none)",
    )
    add(
        "--count",
        type=int,
        default=0,
        metavar="N",
        help="maximum number of frames of each bag (default: all)",
    )
    add("--packed", action="store_true", help="write tar files for WebDataset, not folders")
    options = parser.parse_args(arguments)
    numbers = (options.every, options.change, options.neighbours, options.count)
    if not all(0 <= number < math.inf for number in numbers):
        parser.error("--every, --change, --neighbours and --count: 0 or more")

    dataset = DatasetWriter(options.output, options)
    entries = {path: dataset.entry(path) for path in options.input}
    # Check all bags first, before hours of work.
    bags = {path: Recording(path) for path, entry in entries.items() if not entry["complete"]}
    topics = {path: choose_topics(bag, options) for path, bag in bags.items()}
    for path, bag in bags.items():
        try:
            dataset.record(entries[path], bag, topics[path])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise TrainingError(
                f"no space left for {options.output} or temporary files: complete parts stay;"
                " free some space and run the same command again to resume"
            ) from None
    for path, entry in entries.items():
        done = "" if path in bags else "already done: "
        print(
            f"{entry['name']} {path}: {done}{entry['seen']} images read, {entry['frames']} kept,"
            f" {entry['with_depth']} with depth, lost: {entry['lost'] or 'nothing'}"
        )
        if entry["lost"] and path in bags:
            warn(f"{path}: lost: {entry['lost']}")
    empty = [entry["bag"] for entry in entries.values() if not entry["frames"]]
    if empty:
        raise TrainingError(f"no image could be read from {', '.join(empty)}")
