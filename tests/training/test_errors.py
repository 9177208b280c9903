"""Messages of errors."""

import errno
import os

import pytest

from alexnet_tf.training import errors


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "free some space"),
        (errno.EACCES, "name a writable --workdir"),
        (errno.ENOTDIR, "name a writable --workdir"),
        (errno.EROFS, "name a writable --workdir"),
    ],
)
def test_advice_fits_the_error(number, advice):
    assert errors.what_to_do(OSError(number, os.strerror(number), "f")).startswith(advice)
