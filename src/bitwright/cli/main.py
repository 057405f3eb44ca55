"""The command line: `bitwright <command>`. One file a command; errors of the user are two lines and exit code 2."""

from __future__ import annotations

import importlib
import io
import sys
import traceback
from typing import Any

import click

from bitwright import __version__
from bitwright.ir.errors import CompileError

COMMANDS = {
    "check": "which ops can be built, and what stands in the way",
    "compile": "a network to an accelerator with everything its board needs",
    "csim": "run an output folder's C++ and compare it with the simulation",
    "diff": "the structural difference of two networks",
    "list": "passes, formats, boards, platforms, algorithms, objectives, metrics, models, datasets",
    "opt": "run passes on a network",
    "prune": "a smaller network, refitted without labels; what pruning each layer costs",
    "retrain": "a network's weights, trained a little more in its formats",
    "report": "an output folder's figures, estimated or of a real synthesis",
    "score": "a network's accuracy in its formats",
    "show": "a network as text",
    "tune": "the cheapest number formats that keep the accuracy",
}


class Commands(click.Group):
    """The commands by name; each is imported when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"bitwright.cli.{name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(cls=Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bitwright")
@click.option("--verbose", is_flag=True, help="Show the traceback of an error.")
def application(verbose: bool) -> None:
    """Compile trained networks (ONNX) to FPGA accelerators with numbers as wide as they need to be."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the process ends with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal shows every tensor's name
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit code of a command line: 0, 1 for a difference, 2 for an error of the user, 3 for one of ours."""
    verbose = "--verbose" in arguments
    arguments = [argument for argument in arguments if argument != "--verbose"]
    try:
        result: Any = application.main(arguments, prog_name="bitwright", standalone_mode=False)
    except CompileError as error:
        return _failed(str(error), verbose)
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        usage = f"\n  help: {where.command_path} --help" if where is not None else ""
        return _failed(" ".join(error.format_message().split()) + usage, verbose)
    except click.Abort:  # what click makes of an interrupt
        return _failed("stopped", verbose, 130)
    except OSError as error:
        return _failed(f"{error.filename or 'a file'}: {error.strerror or error}", verbose)
    except Exception as error:  # a fault of ours: say so, and how to report it
        what = f"internal fault: {type(error).__name__}: {error}"
        return _failed(what + "\n  help: please report it, with --verbose", verbose, 3)
    return result if isinstance(result, int) else 0


def _failed(message: str, verbose: bool, code: int = 2) -> int:
    if verbose:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    return code
