"""A span of time on the command line: `60s`, `5m`, `1.5h`, or seconds."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """A positive number of seconds, also written with a unit."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no duration; write 60s, 5m or 1h", parameter, context)
        return float(match[1]) * _UNITS[match[2]]
