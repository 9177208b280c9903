"""Crops of evaluation."""

import numpy as np
import tensorflow as tf

from alexnet_tf.data import preprocessing


def test_ten_crops_of_a_224_network_start_where_the_original_program_cut():
    # An image whose pixels are their own coordinates.
    rows, columns = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    for crop, offsets in {
        224: [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)],
        227: [(0, 0), (0, 29), (14, 14), (29, 0), (29, 29)],
    }.items():
        views = preprocessing.ten_crop(tf.constant(image), crop).numpy()
        assert views.shape == (10, crop, crop, 3)
        assert [tuple(v[0, 0, :2]) for v in views[:5]] == offsets
        for plain, mirror in zip(views[:5], views[5:], strict=True):
            np.testing.assert_array_equal(mirror, plain[:, ::-1])


def test_nine_views_begin_at_the_borders_and_between():
    image = np.arange(32 * 32 * 3, dtype=np.int32).reshape(32, 32, 3)
    views = preprocessing.nine_crop(image, 24).numpy()
    wanted = [image[t : t + 24, left : left + 24] for t in (0, 4, 8) for left in (0, 4, 8)]
    np.testing.assert_array_equal(views, wanted)
