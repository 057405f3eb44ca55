"""The walk of a kernel over an image: how its geometry and the width of its tokens make steps (scan.hpp).

A step takes one token: a group of channels of a pixel, or P whole pixels that lie side by side in a row. Padding above
and beside the image takes no step. The registers hold the columns under the kernel in the order in which they came,
across the ends of rows, and what is not of the image is zero by masks:

    top, left      = min(pad, kernel - 1)                                   rows and columns of zeros by masks
    ahead          = ((P / stride - 1) stride + kernel - 1 - left) div P    tokens for which a window waits
    cols           = max(in / P, out)                                       tokens of a row
    delay          = (kernel rows - 1 - top) cols + ahead
    steps          = delay + those to the last window's own token, and no less than there are tokens

Padding that is wider than the kernel gives windows of padding alone; only that takes steps, before the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

LEAST_ROW = 4  # words of a line buffer's row: a write has landed before its place comes back


@dataclass(frozen=True)
class Scan:
    """The walk of a kernel over an image: sizes as (rows, columns), pads as (top, left, bottom, right)."""

    channels: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    def takes(self, lanes: int) -> bool:
        """Whether tokens of `lanes` elements are a part of a pixel, or pixels that make whole tokens of windows."""
        if lanes <= self.channels:
            return self.channels % lanes == 0
        pixels, rest = divmod(lanes, self.channels)
        windows, between = divmod(pixels, self.strides[1])
        whole = not rest and not between and self.size[1] % pixels == 0 == self.out[1] % max(windows, 1)
        return whole and self.pads[1] < self.kernel[1]

    def steps(self, lanes: int) -> Steps:
        """The walk in tokens of `lanes` elements, which it takes."""
        return _steps(self, lanes)


@dataclass(frozen=True)
class Steps:
    """A walk in tokens of one width.

    pixels: of a token; groups: tokens of a pixel; windows: side by side, that a token completes; first: (row, column)
    of the image's first token; tokens: of a row of the image; cols: of a row of the walk; ahead: tokens that a window
    waits for after its own; delay: all of them; stride: tokens from window to window; total: steps of a frame; span:
    columns that are held.
    """

    pixels: int
    groups: int
    windows: int
    first: tuple[int, int]
    tokens: int
    cols: int
    ahead: int
    delay: int
    stride: int
    total: int
    span: int

    @property
    def row(self) -> int:
        """Steps of a row."""
        return self.cols * self.groups


@cache
def _steps(scan: Scan, lanes: int) -> Steps:
    pixels, groups = max(1, lanes // scan.channels), max(1, scan.channels // lanes)
    windows = max(1, pixels // scan.strides[1])
    held = scan.kernel[0] - 1
    top, left = min(scan.pads[0], held), min(scan.pads[1], scan.kernel[1] - 1)
    first = (scan.pads[0] - top, scan.pads[1] - left)
    tokens, stride = scan.size[1] // pixels, 1 if pixels > 1 else scan.strides[1]
    last_row, last_col = (scan.out[0] - 1) * scan.strides[0], (scan.out[1] // windows - 1) * stride
    least = -(-LEAST_ROW // groups) if held else 1
    cols = max(first[1] + tokens, last_col + 1, least)
    ahead = ((windows - 1) * scan.strides[1] + scan.kernel[1] - 1 - left) // pixels
    delay = (held - top) * cols + ahead
    read = (first[0] + scan.size[0] - 1) * cols + first[1] + tokens
    total = max(read, delay + last_row * cols + last_col + 1) * groups
    span = left + (ahead + 1) * pixels
    return Steps(pixels, groups, windows, first, tokens, cols, ahead, delay, stride, total, span)
