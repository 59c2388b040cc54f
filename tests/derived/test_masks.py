import numpy as np

from depthseg_ros.derived.masks import class_mask, cut_out

LABELS = np.array([[0, 3, 8], [3, 255, 8]], np.uint8)


def test_a_mask_is_255_where_the_classes_are():
    assert class_mask(LABELS, [3, 255]).tolist() == [[0, 255, 0], [255, 255, 0]]
    assert not class_mask(LABELS, []).any()


def test_classes_are_cut_out_of_depth():
    depth = np.full(LABELS.shape, 2, np.float32)
    cut = cut_out(depth, LABELS, {8})
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(cut), LABELS == 8)
    assert (depth == 2).all() and cut_out(depth, LABELS, ()) is depth
