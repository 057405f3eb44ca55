"""A layer as a matrix product: the inputs that meet its weights, as rows; and its weights as rows of the same length.

    conv2d   y[:, place] = W x[:, window at place]       rows: windows at some places of every sample
    dense    y = W x                                     rows: samples

A grouped convolution is as many products as it has groups.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.tensor import Array

MOST_ROWS = 8192

Rows = list[NDArray[np.float32]]
"""For each group, the inputs [rows, inputs of a sum]."""


def group_count(node: Node) -> int:
    """Groups of a convolution; 1 for dense."""
    return integer(node, "groups") if node.op == "conv2d" else 1


def inputs_of(node: Node) -> int:
    """The inputs of one of a layer's sums."""
    return math.prod((node.operand(1).tensor_type.static_shape or ())[1:])


def places_of(node: Node) -> int:
    """The places of one sample at which a layer's weights meet its input; unknown sizes count as 1."""
    return math.prod(dim for dim in (node.results[0].tensor_type.shape or ())[2:] if isinstance(dim, int))


def patches(node: Node, x: Array, seed: int = 0) -> Rows:
    """For each group, the inputs [rows, inputs of a sum] of a layer on samples x; at most about 8,192 rows."""
    if node.op == "dense":
        return [np.asarray(x, np.float32).reshape(-1, x.shape[-1])]
    weight = node.operand(1).tensor_type.static_shape or ()
    kernel = weight[2:]
    rank = len(kernel)
    pads = integers(node, "pads") or (0,) * (2 * rank)
    strides = integers(node, "strides") or (1,) * rank
    dilations = integers(node, "dilations") or (1,) * rank
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    windows = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    places = windows.shape[2 : 2 + rank]
    count = int(np.prod(places))
    keep = max(1, MOST_ROWS // max(len(x), 1))
    if count > keep:  # other places for every sample, the same at every call
        chosen = np.argsort(np.random.default_rng(seed).random((len(x), count)), axis=1)[:, :keep]
    else:
        chosen = np.broadcast_to(np.arange(count), (len(x), count))
    index = np.unravel_index(chosen, places)
    samples = np.arange(len(x))[:, None]
    moved = np.moveaxis(windows, 1, 1 + rank)  # [N, places, channels, kernel]
    rows = moved[(samples, *index)].reshape(chosen.size, x.shape[1], -1)
    groups = group_count(node)
    per = x.shape[1] // groups
    return [rows[:, g * per : (g + 1) * per].reshape(len(rows), -1).astype(np.float32) for g in range(groups)]
