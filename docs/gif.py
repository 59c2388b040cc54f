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

"""Animated GIFs of the documentation, from videos such as the one that `make demo` writes.

tools/env.sh python docs/gif.py demo/demo.mp4 docs/images/demo.gif
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
from PIL import Image

WIDTH, EVERY, COUNT, COLORS = 880, 3, 30, 200


def main(source: str, target: str) -> int:
    """Write every few frames of a video as a GIF that loops."""
    video, frames = cv2.VideoCapture(source), []
    while len(frames) < COUNT * EVERY and (read := video.read())[0]:
        frames.append(read[1])
    if not frames:
        print(f"gif: {source} cannot be read as a video: make demo", file=sys.stderr)
        return 1
    height = round(frames[0].shape[0] * WIDTH / frames[0].shape[1])
    frames = []
    for frame in frames[::EVERY]:
        small = cv2.resize(frame, (WIDTH, height), interpolation=cv2.INTER_AREA)
        frames.append(Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)))
    # One palette for all, so that still parts stay still.
    palette = frames[0].quantize(COLORS, Image.Quantize.MEDIANCUT)
    rest = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in frames]
    rest[0].save(target, save_all=True, append_images=rest[1:], duration=200, loop=0, optimize=True)
    print(f"{target}: {len(rest)} frames, {Path(target).stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
