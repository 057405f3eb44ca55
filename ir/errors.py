"""The two kinds of error: what the user can mend (CompileError) and what is our own fault (InternalError)."""

from __future__ import annotations


class CompileError(Exception):
    """A user's mistake or an unsupported case: one or two lines that name the thing and the way out.

    `message` names the thing, `help` (optional) the way out; the command line prints them without a traceback
    and exits with code 2.
    """

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return self.message if self.help is None else f"{self.message}\n  help: {self.help}"

    def __reduce__(self) -> tuple[type[CompileError], tuple[str, str | None]]:
        return type(self), (self.message, self.help)


class InternalError(Exception):
    """Something that must not happen, whatever the input: please report it with the command that led here."""
