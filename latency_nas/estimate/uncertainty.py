"""What errors of a normal distribution have to do with each other."""

from __future__ import annotations

from math import pi, sqrt

__all__ = ["MAE_TO_STD", "Z90"]

Z90 = 1.645  # 90 % of a normal distribution lies within so many standard deviations
MAE_TO_STD = sqrt(pi / 2)  # its standard deviation, in mean absolute errors
