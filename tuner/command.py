"""The portable mode: a network in any framework, described by a file and measured by command lines (libnumber, 5.1).

    descriptor = load_network(Path("net.py"))              Table 3 of the paper
    platform = load_platform("fpga.py", descriptor.platform)
    judge = CommandJudge(descriptor)
    space, objective = descriptor.space(platform), descriptor.objective()

docs/portable.md has all fields and the two ways in which a program finds its configuration file.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.descriptors import Fields, read_descriptor
from bitwright.tuner.objectives import Objective, objective_of
from bitwright.tuner.platforms import Platform
from bitwright.tuner.process import how_it_ended, last_line, run
from bitwright.tuner.space import Layerwise, Space, space_of
from bitwright.tuner.targets import Target

PLACEHOLDER = "{config}"
LAYERWISE: Mapping[str, Layerwise] = {
    "BOTH": "both",
    "WEIGHT-ONLY": "weights",
    "ACTIVATION-ONLY": "activations",
    "NONE": "none",
}


@dataclass(frozen=True)
class NetworkDescriptor:
    """What net.py says: the fields of Table 3 by their names there, and four that have defaults.

    sub_layer_name: for every layer the branches that share its formats. The paper calls them "branches in same layer"
    and gives one size and one magnitude a layer, so a branch is another name of the layer's tensors: the configuration
    file has `branch.weight` and `branch.input`, biases included, besides the layer's own two lines.

    timeout: seconds a command may take; config_file: where the configuration is written, in the folder of net.py, for a
    command without {config}; small_share: the cost of the small set as a share of the full set's.
    """

    file: Path
    platform: str
    cmd_smallset: str
    cmd_fullset: str
    err_margin: float
    layer_name: tuple[str, ...]
    layerwise_opt: str
    wgt_size: tuple[int, ...]
    act_size: tuple[int, ...]
    act_max_abs: tuple[float, ...]
    wgt_max_abs: tuple[float, ...]
    get_result_regex: str
    sub_layer_name: tuple[tuple[str, ...], ...] = ()
    f_obj: str | Callable[..., Any] = "Default"
    timeout: float = 600.0
    config_file: str = "config.txt"
    small_share: float = 0.1

    @property
    def folder(self) -> Path:
        """Where the commands run: the folder of the descriptor."""
        return self.file.parent

    @property
    def layerwise(self) -> Layerwise:
        """`layerwise_opt` by its name in tuner/space.py."""
        return LAYERWISE[self.layerwise_opt]

    def targets(self) -> list[Target]:
        """Weights and inputs of the layers, with the sizes and largest magnitudes given; branches are aliases."""
        found = []
        branches = self.sub_layer_name or ((),) * len(self.layer_name)
        for layer, others, *numbers in zip(
            self.layer_name,
            branches,
            self.wgt_size,
            self.wgt_max_abs,
            self.act_size,
            self.act_max_abs,
            strict=True,
        ):
            weights, weight_max, inputs, input_max = numbers
            names = [tuple(f"{other}.{role}" for other in others) for role in ("weight", "input")]
            found.append(Target(f"{layer}.weight", "weight", int(weights), weight_max, aliases=names[0]))
            found.append(Target(f"{layer}.input", "input", int(inputs), input_max, aliases=names[1]))
        return found

    def space(self, platform: Platform) -> Space:
        """The search space on a platform."""
        return space_of(self.targets(), platform, self.layerwise)

    def objective(self) -> Objective:
        """What `f_obj` makes small. Raises CompileError if that is no objective, and later for what it raises."""
        if callable(self.f_obj):
            return self._called(self.f_obj)
        path, colon, name = self.f_obj.rpartition(":")
        text = f"{self.folder / path}:{name}" if colon else self.f_obj
        try:
            return objective_of(text, None, self.targets())
        except CompileError as error:
            raise CompileError(f"{self.file.name}: f_obj: {error.message}", error.help) from error

    def identity(self) -> str:
        """Text that differs whenever accuracies or objectives may, as long as programs and data stay the same."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in said.items() if name not in ("err_margin", "timeout")}
        source = self.file if callable(self.f_obj) else self.folder / self.f_obj.rpartition(":")[0]
        if source.is_file():  # the objective is a function in it
            said["f_obj"] = getattr(self.f_obj, "__name__", self.f_obj), hashlib.sha256(source.read_bytes()).hexdigest()
        return "\n".join(f"{name} = {value}" for name, value in said.items())

    def _called(self, function: Callable[..., Any]) -> Objective:
        targets = tuple(self.targets())

        def objective(formats: Mapping[str, Canonical]) -> float:
            try:
                return float(function(dict(formats), targets))
            except Exception as error:
                said = f"{type(error).__name__}: {last_line(str(error))}"
                raise CompileError(f"{self.file.name}: f_obj raised {said}") from error

        return objective


def load_network(file: Path) -> NetworkDescriptor:
    """The descriptor in a file. Raises CompileError that names file and field for what is missing, wrong or unequal."""
    given = Fields(file.name, read_descriptor(file))
    layers = given.names("layer_name")
    if not layers:
        raise given.wrong("layer_name", "lists no layers", 'write ["conv1", "conv2"]')
    count = len(layers)
    regex = given.text("get_result_regex")
    _check_regex(given, regex)
    layerwise = given.text("layerwise_opt").upper()
    if layerwise not in LAYERWISE:
        raise given.wrong("layerwise_opt", f"{layerwise!r} is no mode", f"the modes are {', '.join(LAYERWISE)}")
    f_obj = given.optional("f_obj", "Default")
    if not (isinstance(f_obj, str) or callable(f_obj)):
        raise given.wrong("f_obj", "is no objective", 'write "Default", "file.py:function", or a function')
    return NetworkDescriptor(
        file=file.resolve(),
        platform=given.text("platform"),
        cmd_smallset=given.text("cmd_smallset"),
        cmd_fullset=given.text("cmd_fullset"),
        err_margin=given.number("err_margin", 0, 1, open_above=True),
        layer_name=layers,
        layerwise_opt=layerwise,
        wgt_size=given.sizes("wgt_size", count),
        act_size=given.sizes("act_size", count),
        act_max_abs=given.magnitudes("act_max_abs", count),
        wgt_max_abs=given.magnitudes("wgt_max_abs", count),
        get_result_regex=regex,
        sub_layer_name=_branches(given, layers),
        f_obj=f_obj,
        timeout=given.number("timeout", 0, 1e9, 600.0, open_below=True),
        config_file=given.text("config_file", "config.txt"),
        small_share=given.number("small_share", 0, 1, 0.1, open_below=True),
    )


def _branches(given: Fields, layers: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """`sub_layer_name`, a tuple a layer. Raises CompileError for a name that is there twice."""
    listed = given.sequence("sub_layer_name", default=[[] for _ in layers], count=len(layers))
    found = tuple(given.names("sub_layer_name", group) for group in listed)
    seen = set(layers)
    for name in (name for group in found for name in group):
        if name in seen:
            raise given.wrong("sub_layer_name", f"{name!r} is there twice, or is a layer as well")
        seen.add(name)
    return found


def _check_regex(given: Fields, regex: str) -> None:
    example = 'write r"Accuracy : (.*)\\n"'
    try:
        groups = re.compile(regex).groups
    except re.error as error:
        raise given.wrong("get_result_regex", f"{regex!r} does not compile: {error}", example) from error
    if not groups:
        raise given.wrong("get_result_regex", f"{regex!r} has no group (...) around the number", example)


class CommandJudge:
    """The accuracy that a program prints when its configuration file is a candidate.

    It is used as the program gives it, a share of 1 or of 100: margins are relative to the FLOAT 32 accuracy. Programs
    that are told their file by {config} may run at once (`parallel`). A copy for another process needs the same folder
    there.
    """

    def __init__(self, descriptor: NetworkDescriptor) -> None:
        self.name = descriptor.file.name
        self.folder = descriptor.folder
        self.commands = {"cmd_smallset": descriptor.cmd_smallset, "cmd_fullset": descriptor.cmd_fullset}
        self.regex = descriptor.get_result_regex
        self.timeout = descriptor.timeout
        self.config_file = descriptor.config_file
        self.small_share = descriptor.small_share
        self._identity = descriptor.identity()

    @property
    def images(self) -> int | None:
        """Not known: the program alone sees its data."""
        return None

    @property
    def parallel(self) -> bool:
        """Whether several accuracies may be measured at once."""
        return all(PLACEHOLDER in command for command in self.commands.values())

    def identity(self) -> str:
        return self._identity

    def share(self, full: bool) -> float:
        return 1.0 if full else self.small_share

    def accuracy(self, candidate: Candidate, full: bool) -> float:
        """Run the command on the full or the small set.

        Raises CompileError that names the command if it is not found, fails, takes too long, or prints no accuracy.
        """
        field = "cmd_fullset" if full else "cmd_smallset"
        command = self.commands[field]
        where = f"{self.name}: {field}: `{' '.join(command.split())}`"
        if candidate.values:
            raise CompileError(f"{where} takes formats alone, and no other weights", help="tune the network itself")
        try:
            with self._written(command, candidate.text + "\n") as line:
                done = run(line, self.folder, self.timeout)
        except OSError as error:
            raise CompileError(f"{where} cannot be run in {self.folder}: {error.strerror}") from error
        if done.status is None:
            what = f"{how_it_ended(None)} ({self.timeout:g} s)"
            raise CompileError(f"{where} {what}{_quoted(done.output)}", help="give more seconds: timeout = 3600")
        if done.status:
            raise CompileError(
                f"{where} {how_it_ended(done.status)}{_quoted(done.errors or done.output)}",
                help=f"run it by hand in {self.folder}",
            )
        return self._found(where, done.output)

    @contextmanager
    def _written(self, command: str, text: str) -> Iterator[str]:
        """The command line, while the file with the configuration is there."""
        if PLACEHOLDER not in command:
            (self.folder / self.config_file).write_text(text)
            yield command
            return
        with tempfile.TemporaryDirectory(prefix="bitwright-") as place:
            file = Path(place) / "config.txt"
            file.write_text(text)
            yield command.replace(PLACEHOLDER, shlex.quote(str(file)))

    def _found(self, where: str, output: str) -> float:
        """The number that the last match of the regular expression has."""
        text = output if output.endswith("\n") else output + "\n"
        matches = [match[1] for match in re.finditer(self.regex, text) if match[1] is not None]
        if not matches:
            what = f"printed nothing that get_result_regex {self.regex!r} matches"
            raise CompileError(f"{where} {what}{_quoted(output) or '; it printed nothing at all'}")
        try:
            accuracy = float(matches[-1])
        except ValueError as error:
            raise CompileError(
                f"{where} printed the accuracy {last_line(matches[-1])!r}, which is no number",
                help="let the group of get_result_regex be the number alone, such as ([0-9.]+)",
            ) from error
        if not (math.isfinite(accuracy) and accuracy >= 0):
            raise CompileError(f"{where} printed the accuracy {accuracy:g}", help="it must be a number of 0 or more")
        return accuracy


def _quoted(text: str) -> str:
    """The last line, to be put behind a message."""
    line = last_line(text)
    return f'; its last line was "{line}"' if line else ""
