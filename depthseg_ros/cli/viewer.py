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

"""`depthseg view`: what a model says of pictures, or a node of its camera's, in rerun's viewer.

Picture, labels, confidence and depth side by side, and the depth as points in space. rerun is an
optional extra, and imported here alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray

from ..imaging.geometry import Intrinsics, rays
from ..imaging.rendering import color_table
from ..model_card import UNLABELLED, SemanticClass
from ..perception import Prediction

STEP = 4
"""Points are of every so many rows and columns."""


class Viewer:
    """Shows pictures and what was said of them.

    Args:
        name: What the recording is called.
        classes: Of the labels.
        save: A recording (.rrd) to write in place of opening the viewer.
    """

    def __init__(self, name: str, classes: tuple[SemanticClass, ...], save: Path | None) -> None:
        self._recording = rr.RecordingStream(f"depthseg {name}")
        self._save = save
        views = [
            rrb.Spatial2DView(origin="camera/image", name="picture"),
            rrb.Spatial2DView(origin="camera/labels", name="labels"),
            rrb.Spatial2DView(origin="camera/depth", name="depth"),
            rrb.Spatial2DView(origin="camera/confidence", name="confidence"),
        ]
        blueprint = rrb.Blueprint(
            rrb.Horizontal(
                rrb.Grid(*views, grid_columns=2), rrb.Spatial3DView(origin="/", name="points")
            ),
            collapse_panels=True,
        )
        if save is None:
            self._recording.spawn(default_blueprint=blueprint)
        else:
            self._unfinished = save.with_name(f".{os.getpid()}-{save.name}")
            self._recording.save(str(self._unfinished), default_blueprint=blueprint)
        self._colors = color_table(classes)
        names = [rr.AnnotationInfo(c.id, c.name, c.color) for c in classes]
        names.append(rr.AnnotationInfo(UNLABELLED, "unlabelled", (0, 0, 0)))
        self._recording.log("/", rr.AnnotationContext(names), static=True)
        # As REP-103 has optical frames: x right, y down, z ahead.
        self._recording.log("/", rr.ViewCoordinates.RDF, static=True)

    def show(
        self, frame: int, image: NDArray[np.uint8], camera: Intrinsics, said: Prediction
    ) -> None:
        """Show a picture, (H, W, 3) RGB, and what was said of it."""
        log = self._recording.log
        self._recording.set_time("frame", sequence=frame)
        log("camera/image", rr.Image(image).compress(85))
        if said.labels is not None:
            log("camera/labels", rr.SegmentationImage(said.labels))
        if said.confidence is not None:
            log("camera/confidence", rr.Image(said.confidence))
        if said.depth is not None:
            log("camera/depth", rr.DepthImage(np.nan_to_num(said.depth), meter=1.0))
            height, width = said.depth.shape
            x, y = rays(camera.scaled(width, height), STEP)
            far = said.depth[STEP // 2 :: STEP, STEP // 2 :: STEP]
            points = np.stack([x * far, y * far, far], axis=-1)
            there = np.isfinite(points).all(axis=-1)
            colors = image[STEP // 2 :: STEP, STEP // 2 :: STEP]
            if said.labels is not None:
                colors = self._colors[said.labels[STEP // 2 :: STEP, STEP // 2 :: STEP]]
            log("points", rr.Points3D(points[there], colors=colors[there], radii=0.03))

    def close(self) -> None:
        """Let all of it be written, under its own name."""
        self._recording.flush()
        self._recording.disconnect()
        if self._save is not None:
            try:
                self._unfinished.replace(self._save)
            finally:
                self._unfinished.unlink(missing_ok=True)
