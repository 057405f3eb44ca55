"""A layer as a matrix product: the inputs that meet its weights, as rows; and its weights as rows of the same length.

    conv2d   y[:, place] = W x[:, window at place]       rows: windows at some places of every sample
    dense    y = W x                                     rows: samples

A grouped convolution is as many products as it has groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.tensor import Array

MOST_ROWS = 8192

Rows = list[NDArray[np.float32]]
"""For each group, the inputs [rows, inputs of a sum]."""

Rounding = Callable[[Array], Array]
"""Of an array whose axis 1 are channels."""


def group_count(node: Node) -> int:
    """Groups of a convolution; 1 for dense."""
    return integer(node, "groups") if node.op == "conv2d" else 1


def inputs_of(node: Node) -> int:
    """The inputs of one of a layer's sums."""
    return math.prod((node.operand(1).tensor_type.static_shape or ())[1:])


def places_of(node: Node) -> int:
    """The places of one sample at which a layer's weights meet its input; unknown sizes count as 1."""
    return math.prod(dim for dim in (node.results[0].tensor_type.shape or ())[2:] if isinstance(dim, int))


def patches(node: Node, x: Array, rounding: Rounding | None = None, most_rows: int = MOST_ROWS) -> Rows:
    """For each group, the inputs [rows, inputs of a sum] of a layer on samples x; at most about `most_rows` rows.

    rounding: what a layer's inputs become, which padding does not.
    """
    if node.op == "dense":
        rows = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
        return [rows if rounding is None else np.asarray(rounding(rows), np.float32)]
    taken, inside = _windows(node, x, most_rows)
    if rounding is not None:
        taken = rounding(taken)
    rows = np.where(inside, taken, np.float32(0)).astype(np.float32, copy=False)
    return [part.reshape(len(part), -1) for part in np.split(rows, group_count(node), 1)]


def _windows(node: Node, x: Array, most_rows: int) -> tuple[Array, NDArray[np.bool_]]:
    """Windows [rows, channels, kernel] of x, and which places of them [rows, 1, kernel] lie within the image."""
    kernel = (node.operand(1).tensor_type.static_shape or ())[2:]
    rank = len(kernel)
    pads = integers(node, "pads") or (0,) * (2 * rank)
    strides = integers(node, "strides") or (1,) * rank
    dilations = integers(node, "dilations") or (1,) * rank
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = zip(x.shape[2:], pads[:rank], pads[rank:], spans, strides, strict=True)
    places = tuple((size + first + last - span) // step + 1 for size, first, last, span, step in sizes)
    chosen = _chosen(len(x), math.prod(places), max(1, most_rows // max(len(x), 1)))
    corners = np.unravel_index(chosen.reshape(-1), places)
    samples = np.repeat(np.arange(len(x)), chosen.shape[1]).reshape(-1, *(1,) * rank)
    inside: NDArray[np.bool_] = np.ones((chosen.size, *kernel), np.bool_)
    where = []
    for axis, corner in enumerate(corners):
        taps = np.arange(kernel[axis]) * dilations[axis] - pads[axis]
        place = corner[:, None] * strides[axis] + taps
        place = place.reshape(-1, *(kernel[axis] if i == axis else 1 for i in range(rank)))
        inside &= (place >= 0) & (place < x.shape[2 + axis])
        where.append(np.clip(place, 0, x.shape[2 + axis] - 1))
    taken = np.moveaxis(x, 1, -1)[(samples, *where)]
    return np.moveaxis(taken, -1, 1), inside[:, None]


@cache
def _chosen(samples: int, places: int, keep: int) -> NDArray[np.int64]:
    """Places of every sample [samples, some]: all, or `keep` others for every sample, the same at every call."""
    if places <= keep:
        return np.broadcast_to(np.arange(places), (samples, places))
    return np.argsort(np.random.default_rng(0).random((samples, places)), axis=1)[:, :keep].copy()
