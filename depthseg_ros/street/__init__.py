"""A rendered street with exact depth and labels: the demo's camera, and training data."""

from depthseg_ros.street.camera import Camera, Street, StreetFrame
from depthseg_ros.street.sketch import CLASS_NAMES

__all__ = ["CLASS_NAMES", "Camera", "Street", "StreetFrame"]
