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

import math

import cv2
import numpy as np
import pytest

from depthseg_ros.imaging.lens import Lens

LENSES = {
    "barrel": Lens("plumb_bob", (-0.3, 0.1, 0.001, -0.002, 0.0)),
    "barrel of 4": Lens("plumb_bob", (-0.3, 0.1, 0.001, -0.002)),
    "pincushion": Lens("plumb_bob", (0.5, 0.2, 0.002, 0.001, 0.1)),
    "rational": Lens("rational_polynomial", (0.5, 0.1, 0.001, -0.002, 0.01, 0.9, 0.2, 0.03)),
    "thin prism": Lens(
        "rational_polynomial",
        (0.5, 0.1, 0.001, -0.002, 0.01, 0.9, 0.2, 0.03, 0.01, -0.02, 0.03, 0.01),
    ),
    "tilted": Lens(
        "rational_polynomial",
        (-0.3, 0.1, 0.001, -0.002, *[0.0] * 4, 0.01, -0.02, 0.03, 0.01, 0.05, -0.08),
    ),
    "fisheye": Lens("equidistant", (0.05, -0.01, 0.002, -0.001)),
}


def bent(lens, rays):
    """What OpenCV makes of rays (N, 2)."""
    one, d, zero = np.eye(3), np.array(lens.coefficients), np.zeros(3)
    if lens.model == "equidistant":
        return cv2.fisheye.distortPoints(rays[:, None], one, d)[:, 0]
    return cv2.projectPoints(np.c_[rays, np.ones(len(rays))], zero, zero, one, d)[0][:, 0]


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_what_a_lens_bends_is_unbent(lens):
    x, y = np.mgrid[-0.7:0.7:41j, -0.6:0.6:41j].reshape(2, -1)
    out = bent(lens, np.stack([x, y], axis=1))
    back = lens.unbent(*out.T)
    np.testing.assert_allclose(back, [x, y], atol=1e-5)
    assert np.abs(out - np.stack([x, y], axis=1)).max() > 0.02  # it does bend


def test_a_fisheye_sees_up_to_the_side_and_no_farther():
    lens = Lens("equidistant", (0.01, 0.0, 0.0, 0.0))
    angle = np.radians([0, 30, 60, 89, 95, 150])
    x, y = lens.unbent(angle * (1 + 0.01 * angle**2), np.zeros(6))
    np.testing.assert_allclose(np.degrees(np.arctan(x[:4])), [0, 30, 60, 89], atol=1e-3)
    assert np.isnan(x[4:]).all() and (y[:4] == 0).all()


def test_where_a_lens_turns_back_there_are_no_rays():
    lens = Lens("plumb_bob", (-0.4, 0.0, 0.0, 0.0, 0.0))  # r - 0.4 r^3 is greatest at 0.913
    greatest = math.sqrt(1 / 1.2) * 2 / 3
    x, _ = lens.unbent(np.array([0.0, 0.99, 1.01, 2.0]) * greatest, np.zeros(4))
    assert x[0] == 0 and x[1] < 0.913 and np.isnan(x[2:]).all()


@pytest.mark.parametrize(
    "lens",
    [
        Lens("plumb_bob", (-5.0, 1e300, 0.0, 0.0, -1e6)),
        Lens("rational_polynomial", (0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0)),
        Lens("rational_polynomial", (*[0.0] * 8, 1e6, -1e300, 0.0, 1e6, math.pi / 2, 1e300)),
        Lens("equidistant", (-1e6, 0.0, 1e300, 0.0)),
    ],
)
def test_senseless_coefficients_give_rays_or_none_and_no_warnings(lens, recwarn):
    x, y = lens.unbent(*np.mgrid[-1:1:9j, -1:1:9j])
    assert (np.isnan(x) == np.isnan(y)).all() and not len(recwarn)


@pytest.mark.parametrize(
    ("model", "coefficients", "says"),
    [
        ("brown", (), "lens 'brown', expected one of plumb_bob"),
        ("plumb_bob", (1.0,), "1 coefficients of a plumb_bob lens, expected 4 or 5"),
        ("equidistant", (), "0 coefficients of a equidistant lens, expected 4"),
        ("equidistant", (1.0, 0.0, 0.0, math.nan), "expected finite ones"),
    ],
)
def test_a_senseless_lens_is_refused(model, coefficients, says):
    with pytest.raises(ValueError, match=says):
        Lens(model, coefficients)
