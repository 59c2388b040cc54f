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

Frames are taken in steps of time, those left out that look like the one before, as when the robot
stands. Each keeps its stamp, its camera, the pictures shortly before and after, and what truth the
bag has, as of an RGB-D camera. They lie on disk in parts (`data.shards`), which are complete or
absent: given again, the command goes on after the last one.
"""

from __future__ import annotations

import argparse
import errno
import math
from pathlib import Path

from ..errors import TrainingError
from ..own_robot.bag import Dataset
from ..own_robot.recordings import Recording
from ..own_robot.selection import choose_topics, warn


def main(arguments: list[str]) -> None:
    """Write the frames of bags; print a line of each, and what it lost."""
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
    add("--output", type=Path, required=True, metavar="DATASET", help="to write, or to go on with")
    add("--topic", help="of the pictures, where the bags have several")
    add("--camera-info-topic", metavar="TOPIC", help="default: camera_info beside the pictures")
    add("--depth-topic", metavar="TOPIC", help="measured depth of the same view, kept as truth")
    add("--labels-topic", metavar="TOPIC", help="class ids of the same view, kept as truth")
    add("--every", type=float, default=0.5, metavar="SECONDS", help="between frames (default: 0.5)")
    add(
        "--change",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="of the range of gray by which frames differ at least (default: 0.02)",
    )
    add(
        "--neighbours",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="to the pictures kept before and after each frame (default: 0.1; 0: none)",
    )
    add(
        "--count",
        type=int,
        default=0,
        metavar="N",
        help="frames of each bag at most (default: all)",
    )
    add("--packed", action="store_true", help="write tar files, as WebDataset reads, not folders")
    options = parser.parse_args(arguments)
    numbers = (options.every, options.change, options.neighbours, options.count)
    if not all(0 <= number < math.inf for number in numbers):
        parser.error("--every, --change, --neighbours and --count: 0 or more")

    dataset = Dataset(options.output, options)
    entries = {path: dataset.entry(path) for path in options.input}
    # Report what cannot work before hours of work.
    bags = {path: Recording(path) for path, entry in entries.items() if not entry["complete"]}
    topics = {path: choose_topics(bag, options) for path, bag in bags.items()}
    for path, bag in bags.items():
        try:
            dataset.record(entries[path], bag, topics[path])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise TrainingError(
                f"no space left, for {options.output} or temporary files: complete parts stay;"
                " make room and give the command again, it goes on"
            ) from None
    for path, entry in entries.items():
        done = "" if path in bags else "already there: "
        print(
            f"{entry['name']} {path}: {done}{entry['seen']} pictures seen, {entry['frames']} kept,"
            f" {entry['with_depth']} with depth, lost: {entry['lost'] or 'nothing'}"
        )
        if entry["lost"] and path in bags:
            warn(f"{path}: lost: {entry['lost']}")
    empty = [entry["bag"] for entry in entries.values() if not entry["frames"]]
    if empty:
        raise TrainingError(f"no picture could be read of {', '.join(empty)}")
