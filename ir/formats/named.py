"""The formats by the names they go by in papers: every row of libnumber's Table 1, and the usual small floats."""

from __future__ import annotations

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.canonical import Canonical


def default_exponent_bits(width: int) -> int:
    """n_e of FLOAT(width): IEEE's 11, 8 and 5 for 64, 32 and 16 bits; 8 down to 19 bits (TensorFloat32), 5 down to
    9 bits (MS-fp9), 4 down to 6 bits (e4m3), then 2."""
    for least, bits in ((64, 11), (19, 8), (9, 5), (6, 4)):
        if width >= least:
            return bits
    return 2


def default_bias(n_e: int) -> int:
    """2^(n_e - 1) - 1 for FLOAT and EXP, 0 for FIXED and BIN (and for what is no format)."""
    return (1 << (n_e - 1)) - 1 if 0 < n_e < 64 else 0


def float_format(width: int, bias: int | None = None, n_e: int | None = None, n_s: int = 1) -> Canonical:
    """FLOAT(width) = <1, n_e, width - 1 - n_e, B>; Raises CompileError if no fraction bit is left."""
    n_e = default_exponent_bits(width) if n_e is None else n_e
    n_f = width - n_s - n_e
    if n_e < 1 or n_f < 1:
        raise CompileError(f"FLOAT {width} with {n_e} exponent bits has no fraction bits; use EXP {width}")
    return Canonical(n_s, n_e, n_f, default_bias(n_e) if bias is None else bias)


def fixed(width: int, bias: int = 0, n_s: int = 1) -> Canonical:
    """FIXED(width) = <1, 0, width - 1, B>, step 2^(2 - width - B); FIXED(1) is BIN."""
    return Canonical(n_s, 0, width - n_s, bias)


def exp(width: int, bias: int | None = None, n_s: int = 1) -> Canonical:
    """EXP(width) = <1, width - 1, 0, B>: 0 and signed powers of two; EXP(1) is BIN."""
    n_e = width - n_s
    return Canonical(n_s, n_e, 0, default_bias(n_e) if bias is None else bias)


def binary(bias: int = 0) -> Canonical:
    """BIN = <1, 0, 0, B>: the two values +-2^-B."""
    return Canonical(1, 0, 0, bias)


FLOAT32 = float_format(32)
HALF = float_format(16)
BFLOAT16 = float_format(16, n_e=8)
FP8_E4M3 = float_format(8, n_e=4)
FP8_E5M2 = float_format(8, n_e=5)
MS_FP9 = float_format(9, n_e=5)
FIXED16 = fixed(16)
FIXED11 = fixed(11)
FIXED8 = fixed(8)
LOGQUANT4 = exp(4)
BIN = binary()

NAMED = {
    "FLOAT32": FLOAT32,
    "HALF": HALF,
    "BFLOAT16": BFLOAT16,
    "FP8_E4M3": FP8_E4M3,
    "FP8_E5M2": FP8_E5M2,
    "MS_FP9": MS_FP9,
    "FIXED16": FIXED16,
    "FIXED11": FIXED11,
    "FIXED8": FIXED8,
    "LOGQUANT4": LOGQUANT4,
    "BIN": BIN,
}
