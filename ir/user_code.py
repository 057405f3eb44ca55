"""Functions of the user's, named `file.py:function` in options: read and called so that what goes wrong is reported.

The file is a module of its own name space; while it is imported and while its function runs, its folder stands at the
front of the import path, as for a script, so that it finds its neighbours.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from bitwright.ir.errors import CompileError


def user_function(file: Path, name: str, usage: str) -> Callable[..., Any]:
    """The function of a file; what it raises when it is called becomes a CompileError that names both.

    usage: what the function must look like, for the message if the file has none: "pictures(split), which returns ...".
    Raises CompileError if there is no such file or function, or if importing the file raises.
    """
    if not file.is_file() or file.suffix != ".py":
        raise CompileError(f"{file}: no such file" if not file.is_file() else f"{file}: not a .py file")
    with _running_from(file.parent):
        try:
            module = _imported(file)
        except (Exception, SystemExit) as error:
            raise CompileError(f"{file}: importing it raised {_described(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise _no_function(file, name, module, usage)

    @functools.wraps(function)
    def guarded(*arguments: Any) -> Any:
        with _running_from(file.parent):
            try:
                return function(*arguments)
            except (Exception, SystemExit) as error:
                raise CompileError(f"{file}: {name}() raised {_described(error)}") from error

    return guarded


def user_number(file: Path, name: str, usage: str) -> Callable[..., float]:
    """The same for a function that returns a number: a CompileError if it gives something else, or nan."""
    function = user_function(file, name, usage)

    @functools.wraps(function)
    def number(*arguments: Any) -> float:
        found = function(*arguments)
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = math.nan
        if math.isnan(value):
            raise CompileError(f"{file}: {name}() gave {found!r}, which is no number")
        return value

    return number


def _imported(file: Path) -> ModuleType:
    """The file as a module, registered so that its dataclasses and pickles work."""
    name = f"bitwright_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _no_function(file: Path, name: str, module: ModuleType, usage: str) -> CompileError:
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    found = [value.__name__ for value in own if inspect.isfunction(value)]
    close = difflib.get_close_matches(name, found, n=1)
    meant = f", did you mean {close[0]}?" if close else ""
    way_out = f"it has {', '.join(found)}" if found else f"write def {usage}"
    return CompileError(f"{file}: no function {name}{meant}", help=way_out)


@contextlib.contextmanager
def _running_from(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _described(error: BaseException) -> str:
    """The kind of an error and the last line of its text, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
