import math

import cv2
import numpy as np
import pytest

from depthseg_ros.geometry import Intrinsics, Lens, rays, to_millimetres


def test_field_of_view_gives_the_focal_length_and_a_centred_principal_point():
    camera = Intrinsics.from_fov(640, 480, math.radians(90))
    assert camera.fx == pytest.approx(320)
    assert camera.fy == camera.fx
    assert (camera.cx, camera.cy) == (319.5, 239.5)


def test_scaling_keeps_every_ray():
    camera = Intrinsics(640, 480, 500, 510, 300, 250)
    half = camera.scaled(320, 120)
    # The outer border of the picture, half a pixel outside the first centre, stays the border.
    for before, after in (
        ((-0.5 - camera.cx) / camera.fx, (-0.5 - half.cx) / half.fx),
        ((639.5 - camera.cx) / camera.fx, (319.5 - half.cx) / half.fx),
        ((-0.5 - camera.cy) / camera.fy, (-0.5 - half.cy) / half.fy),
        ((479.5 - camera.cy) / camera.fy, (119.5 - half.cy) / half.fy),
    ):
        assert after == pytest.approx(before)


def test_the_matrix_projects_to_the_principal_point():
    camera = Intrinsics(640, 480, 500, 510, 300, 250)
    assert camera.matrix @ [0, 0, 2] == pytest.approx([600, 500, 2])


CAMERA = Intrinsics(640, 480, 500, 510, 300, 250)
BARREL = (-0.3, 0.1, 0.001, -0.002, 0.0)
LENSES = [
    Lens("plumb_bob", BARREL),
    Lens("plumb_bob", BARREL[:4]),
    Lens("rational_polynomial", (0.5, 0.1, 0.001, -0.002, 0.01, 0.9, 0.2, 0.03)),
    Lens("equidistant", (0.05, -0.01, 0.002, -0.001)),
]


@pytest.mark.parametrize("camera", [CAMERA, CAMERA.scaled(161, 97)])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_rays_of_a_pinhole_go_through_its_pixels(camera, step):
    x, y = rays(camera, step)
    rows = np.arange(camera.height)[step // 2 :: step]
    columns = np.arange(camera.width)[step // 2 :: step]
    assert x.shape == y.shape == (len(rows), len(columns)) and x.dtype == np.float32
    assert x * camera.fx + camera.cx == pytest.approx(np.tile(columns, (len(rows), 1)), abs=1e-3)
    assert y.T * camera.fy + camera.cy == pytest.approx(np.tile(rows, (len(columns), 1)), abs=1e-3)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}{len(lens.coefficients)}")
def test_rays_of_a_lens_come_out_at_their_pixels(lens):
    camera = Intrinsics(640, 480, 500, 510, 300, 250, lens)
    straight = rays(camera, 4).reshape(2, -1).T.astype(float)
    d, zero = np.array(lens.coefficients), np.zeros(3)
    if lens.model == "equidistant":
        pixels = cv2.fisheye.distortPoints(straight[:, None], camera.matrix, d)
    else:
        points = np.c_[straight, np.ones(len(straight))]
        pixels, _ = cv2.projectPoints(points, zero, zero, camera.matrix, d)
    v, u = np.mgrid[2:480:4, 2:640:4]
    np.testing.assert_allclose(pixels[:, 0], np.c_[u.ravel(), v.ravel()], atol=0.5)
    # The test can fail: without its lens the camera looks elsewhere.
    assert np.abs(rays(CAMERA, 4) - rays(camera, 4)).max() > 0.02


def test_a_pixel_beyond_what_the_lens_sees_has_no_ray():
    fisheye = Intrinsics(640, 480, 150, 150, 320, 240, Lens("equidistant", (0.01, 0, 0, 0)))
    x, _ = rays(fisheye)
    assert np.isnan(x[0, 0]) and abs(x[240, 320]) < 1e-3  # the corner is 153 degrees off the axis
    theta = np.arctan(x[240][np.isfinite(x[240])].astype(float))
    assert math.degrees(np.ptp(theta)) > 170


def test_rays_are_computed_once_and_cannot_be_spoilt():
    assert rays(CAMERA, 2) is rays(Intrinsics(640, 480, 500, 510, 300, 250), 2)
    with pytest.raises(ValueError, match="read-only"):
        rays(CAMERA, 2)[0] = 0


def test_scaling_keeps_the_lens():
    lens = Lens("plumb_bob", BARREL)
    camera = Intrinsics(640, 480, 500, 510, 300, 250, lens)
    full, half = rays(camera, 2), rays(camera.scaled(320, 240))
    assert camera.scaled(320, 240).lens == lens
    # The half's pixel lies between the full's: compare with the mean of two neighbours.
    np.testing.assert_allclose(half[0][:, :-1], full[0][:, :-1], atol=2e-3)


@pytest.mark.parametrize(
    ("model", "coefficients", "says"),
    [
        ("brown", (), "lens 'brown', expected one of plumb_bob"),
        ("plumb_bob", (1.0,), "1 coefficients of a plumb_bob lens, expected 4 or 5"),
        ("equidistant", (1.0, 0.0, 0.0, math.nan), "expected finite ones"),
    ],
)
def test_a_senseless_lens_is_refused(model, coefficients, says):
    with pytest.raises(ValueError, match=says):
        Lens(model, coefficients)


def test_millimetres_are_zero_where_there_is_no_depth_or_no_room_for_it():
    depth = np.array([[1.2344, np.nan, 65.535, 65.6, np.inf, -1.0, 0.0002, -np.inf]], np.float32)
    assert to_millimetres(depth).tolist() == [[1234, 0, 65535, 0, 0, 0, 0, 0]]
