"""A share on the command line: `1%` or `0.01`."""

from __future__ import annotations

from typing import Any

import click


class Percent(click.ParamType[float]):
    """A number from 0 to 1, also written in percent; whole: whether all of it is a share, too."""

    name = "share"

    def __init__(self, whole: bool = True) -> None:
        self.whole = whole

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{value!r} is no share; write 1% or 0.01", parameter, context)
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not between 0% and 100%", parameter, context)
        if share == 1 and not self.whole:
            self.fail(f"{value!r} is 100%, which allows anything; write 1% or 0.01", parameter, context)
        return share
