"""Graphs of a few lines of text."""

from __future__ import annotations


def graph(*lines: str, name: str = "g") -> str:
    return "\n".join([f"graph @{name} {{", *("  " + line for line in lines), "}", ""])
