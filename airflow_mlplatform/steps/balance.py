"""Putting things of known sizes into parts of about the same size, without changing their order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

__all__ = ["balanced"]

T = TypeVar("T")


def balanced(things: Sequence[T], sizes: Sequence[int], parts: int) -> tuple[tuple[T, ...], ...]:
    """Cut a sequence into parts whose largest is as small as neighbours in the order allow.

    :param sizes: size of each thing.
    :param parts: at most so many; as many as there are things, if those are fewer.
    :returns: the parts, in order, none empty.
    """
    # An empty thing costs something too, or all empty ones would be one part.
    weights = [max(size, 1) for size in sizes]
    low, high = max(weights, default=1), sum(weights)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(weights, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    lengths, sums = _filled(weights, high), [0, *accumulate(weights)]
    while len(lengths) < min(parts, len(things)):
        lengths = _with_largest_halved(lengths, sums)
    ends = list(accumulate(lengths))
    return tuple(tuple(things[end - length : end]) for end, length in zip(ends, lengths, strict=True))


def _filled(weights: Sequence[int], limit: int) -> list[int]:
    """Fill part after part up to a limit; return how many things each holds."""
    lengths, filled = [], limit
    for weight in weights:
        if filled + weight > limit:
            lengths.append(0)
            filled = 0
        lengths[-1] += 1
        filled += weight
    return lengths


def _with_largest_halved(lengths: list[int], sums: Sequence[int]) -> list[int]:
    starts = [0, *accumulate(lengths)]
    totals = [sums[start + length] - sums[start] for start, length in zip(starts, lengths, strict=False)]
    largest = max((number for number, length in enumerate(lengths) if length > 1), key=totals.__getitem__)
    start, length = starts[largest], lengths[largest]
    middle = sums[start] + totals[largest] / 2
    cut = min(range(1, length), key=lambda count: abs(sums[start + count] - middle))
    return [*lengths[:largest], cut, length - cut, *lengths[largest + 1 :]]
