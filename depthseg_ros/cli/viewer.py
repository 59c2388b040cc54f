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

"""`depthseg view`: predictions of a model or of a running node in the Rerun viewer.

Shows image, labels, confidence and depth next to each other, and the depth as a point cloud. rerun
is an optional extra and only imported here.
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
"""Rows and columns from one point to the next."""


class Viewer:
    """Shows images and predictions.

    Args:
        name: Name of the recording.
        classes: Classes of the labels.
        save: Recording (.rrd) to write instead of opening the viewer.
    """

    def __init__(self, name: str, classes: tuple[SemanticClass, ...], save: Path | None) -> None:
        self._recording = rr.RecordingStream(f"depthseg {name}")
        self._save = save
        views = [
            rrb.Spatial2DView(origin="camera/image", name="image"),
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
        # Optical frame of REP-103: x right, y down, z ahead.
        self._recording.log("/", rr.ViewCoordinates.RDF, static=True)

    def show(
        self, frame: int, image: NDArray[np.uint8], camera: Intrinsics, prediction: Prediction
    ) -> None:
        """Show an image, (H, W, 3) uint8 RGB, and its prediction."""
        log = self._recording.log
        self._recording.set_time("frame", sequence=frame)
        log("camera/image", rr.Image(image).compress(85))
        if prediction.labels is not None:
            log("camera/labels", rr.SegmentationImage(prediction.labels))
        if prediction.confidence is not None:
            log("camera/confidence", rr.Image(prediction.confidence))
        if prediction.depth is not None:
            log("camera/depth", rr.DepthImage(np.nan_to_num(prediction.depth), meter=1.0))
            height, width = prediction.depth.shape
            x, y = rays(camera.scaled(width, height), STEP)
            far = prediction.depth[STEP // 2 :: STEP, STEP // 2 :: STEP]
            points = np.stack([x * far, y * far, far], axis=-1)
            there = np.isfinite(points).all(axis=-1)
            colors = image[STEP // 2 :: STEP, STEP // 2 :: STEP]
            if prediction.labels is not None:
                colors = self._colors[prediction.labels[STEP // 2 :: STEP, STEP // 2 :: STEP]]
            log("points", rr.Points3D(points[there], colors=colors[there], radii=0.03))

    def close(self) -> None:
        """Finish the recording and give it its final name."""
        self._recording.flush()
        self._recording.disconnect()
        if self._save is not None:
            try:
                self._unfinished.replace(self._save)
            finally:
                self._unfinished.unlink(missing_ok=True)
