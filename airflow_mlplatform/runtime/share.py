"""Whose turn it is: a share of the requests, exact over few of them and without a pattern."""

from __future__ import annotations

import math
import random

__all__ = ["Share"]

WHOLE = 100


class Share:
    """A share of the requests.

    They are dealt in the smallest blocks in which the share is a whole number (20 requests at 5 %), each in an order of
    its own: whoever sends two kinds of requests in turn must not have each answered by the same predictor always.

    :param percent: 0 to 100.
    """

    def __init__(self, percent: int) -> None:
        unit = math.gcd(percent, WHOLE)
        self._block = [True] * (percent // unit) + [False] * ((WHOLE - percent) // unit)
        self._left: list[bool] = []

    def turn(self) -> bool:
        """Whether the next request is one of the share."""
        if not self._left:
            self._left = random.sample(self._block, len(self._block))
        return self._left.pop()
