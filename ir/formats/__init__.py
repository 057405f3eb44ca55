"""Number formats: what a number of so many bits can be. `parse("FIXED 15 -3").quantize(x)` is the nearest of them."""

from bitwright.ir.formats.affine import Affine
from bitwright.ir.formats.base import Format
from bitwright.ir.formats.canonical import Canonical
from bitwright.ir.formats.fit import Fit, best_bias, best_format
from bitwright.ir.formats.integers import integer_format
from bitwright.ir.formats.named import NAMED, binary, exp, fixed, float_format
from bitwright.ir.formats.size import compressed_ratio, stored_bits
from bitwright.ir.formats.text import KINDS, parse, parse_kind, short, to_text

__all__ = [
    "KINDS",
    "NAMED",
    "Affine",
    "Canonical",
    "Fit",
    "Format",
    "best_bias",
    "best_format",
    "binary",
    "compressed_ratio",
    "exp",
    "fixed",
    "float_format",
    "integer_format",
    "parse",
    "parse_kind",
    "short",
    "stored_bits",
    "to_text",
]
