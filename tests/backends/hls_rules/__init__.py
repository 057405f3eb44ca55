"""The rules that generated HLS code must obey, checked on its text: `violations` of an output folder's sources.

Nothing here knows the generator. The text is read as the synthesis tools read it (`source`), parsed by tree-sitter, and
each rule looks at the tree. The numbers of the rules:

dataflow  1 declarations and calls only         2 locals declared here, none static    3 one writer, then one reader
          4 ports first and last, one loop exit 5 loops count from 0 by 1              6 streams blocking, by reference
          7 what is written is read
process   8 PIPELINE innermost, constant inside 9 banks have two ports                10 no float carried at II 1
          11 pragmas behind their variables    12 tables are constants                13 bounded, static, no recursion
ports     14 axis: TLAST, TKEEP                15 ap_ctrl_hs, as the driver has it    16 widths hold the weights
"""

from __future__ import annotations

from collections.abc import Mapping

from hls_rules import dataflow, ports, process
from hls_rules.source import Design, Finding

__all__ = ["Finding", "violations"]

VITIS = frozenset({"__SYNTHESIS__", "BITWRIGHT_AP_TYPES"})
VIVADO = VITIS | {"BITWRIGHT_VIVADO_HLS"}


def violations(files: Mapping[str, str]) -> list[Finding]:
    """What is wrong with the sources {path: text} of an output folder, as either of the two tools reads them."""
    found: list[Finding] = []
    for defined in (VITIS, VIVADO):
        design = Design(files, defined)
        for finding in (*design.unread, *dataflow.check(design), *process.check(design), *ports.check(design)):
            if finding not in found:
                found.append(finding)
    return found
