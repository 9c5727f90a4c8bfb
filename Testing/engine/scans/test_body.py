"""Where the body is, on made scans whose body is known and on a real one."""

from __future__ import annotations

import numpy as np

from glmae.scans.body import body_box


def test_largest_bright_part_is_the_body() -> None:
    image = np.full((1, 60, 50, 40), -1.0, dtype=np.float32)
    image[0, 10:50, 12:40, 3:37] = 1.0
    image[0, 55:58, 2:5, :] = 1.0  # a table
    assert body_box(image) == ((10, 50), (12, 40), (3, 37))


def test_large_scan_is_looked_at_coarsely() -> None:
    image = np.zeros((1, 400, 300, 20), dtype=np.float32)
    image[0, 100:300, 60:240, :] = 5.0
    (i0, i1), (j0, j1), k = body_box(image)
    assert abs(i0 - 100) <= 5
    assert abs(i1 - 300) <= 5
    assert abs(j0 - 60) <= 4
    assert abs(j1 - 240) <= 4
    assert k == (0, 20)


def test_uniform_scan_is_all_body() -> None:
    assert body_box(np.zeros((1, 9, 8, 7), dtype=np.float32)) == ((0, 9), (0, 8), (0, 7))
