"""The portable mode: descriptors right and wrong, and programs that answer, fail, hang or say nothing."""

from __future__ import annotations

import dataclasses
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse
from bitwright.ir.formats.named import FLOAT32
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.command import CommandJudge, NetworkDescriptor, load_network
from bitwright.tuner.objectives import Bits
from bitwright.tuner.platforms import load_platform, platform_of
from bitwright.tuner.space import uniform, with_aliases

TABLE_3: dict[str, Any] = {
    "platform": "FPGA",
    "cmd_smallset": "cat {config}; echo 'Accuracy : 0.9'",
    "cmd_fullset": "cat {config}; echo 'Accuracy : 0.95'",
    "err_margin": 0.07,
    "f_obj": "Default",
    "layer_name": ["conv1", "conv2"],
    "sub_layer_name": [[], ["branch1", "branch2"]],
    "layerwise_opt": "BOTH",
    "wgt_size": [500, 25000],
    "act_size": [784, 2880],
    "act_max_abs": [0.996094, 5.05664],
    "wgt_max_abs": [0.5794976, 0.16474459],
    "get_result_regex": "Accuracy : (.*)\n",
}
FORMATS = {"conv1.weight": parse("EXP 8"), "conv1.input": parse("FIXED 15 -3"), "conv2.weight": FLOAT32}


def written(folder: Path, more: str = "", **changes: Any) -> Path:
    """A net.py of Table 3 with changes; None leaves a field out."""
    values = {name: value for name, value in (TABLE_3 | changes).items() if value is not None}
    file = folder / "net.py"
    file.write_text("\n".join([*(f"{name} = {value!r}" for name, value in values.items()), more]))
    return file


def judge(folder: Path, command: str, **changes: Any) -> CommandJudge:
    return CommandJudge(load_network(written(folder, cmd_smallset=command, cmd_fullset=command, **changes)))


def candidate(**formats: str) -> Candidate:
    given = {name.replace("_", "."): parse(text) for name, text in formats.items()} or FORMATS
    return Candidate({name: format for name, format in given.items() if isinstance(format, Canonical)})


def failure(judge: CommandJudge, full: bool = True) -> str:
    """What a judge raises: one line of message, perhaps one of help."""
    with pytest.raises(CompileError) as caught:
        judge.accuracy(candidate(), full)
    assert "\n" not in caught.value.message
    assert "\n" not in (caught.value.help or "")
    return str(caught.value)


# ---- descriptors


def test_table_3_as_the_paper_prints_it(tmp_path: Path) -> None:
    found = load_network(written(tmp_path))
    assert found.file == tmp_path / "net.py"
    assert found.folder == tmp_path
    assert (found.platform, found.err_margin, found.layerwise) == ("FPGA", 0.07, "both")
    assert (found.timeout, found.config_file, found.small_share) == (600, "config.txt", 0.1)
    targets = {target.name: target for target in found.targets()}
    assert list(targets) == ["conv1.weight", "conv1.input", "conv2.weight", "conv2.input"]
    assert (targets["conv1.weight"].size, targets["conv1.weight"].max_abs) == (500, 0.5794976)
    assert (targets["conv2.input"].size, targets["conv2.input"].max_abs) == (2880, 5.05664)
    assert targets["conv2.input"].role == "input"
    assert not targets["conv1.weight"].aliases


def test_branches_are_other_names_of_their_layer(tmp_path: Path) -> None:
    space = load_network(written(tmp_path)).space(load_platform("paper"))
    formats = with_aliases(space, uniform(space, Canonical(1, 0, 7)))
    assert formats["branch1.weight"] == formats["branch2.weight"] == formats["conv2.weight"]
    assert formats["branch1.input"] == formats["conv2.input"]
    assert formats["conv1.weight"] != formats["conv2.weight"]  # their magnitudes differ
    lines = Candidate(formats).text.splitlines()
    assert len(lines) == 8
    assert "branch2.input FIXED 8 -2" in lines


@pytest.mark.parametrize(
    ("mode", "weights", "inputs"),
    [("BOTH", 2, 2), ("WEIGHT-ONLY", 2, 1), ("ACTIVATION-ONLY", 1, 2), ("NONE", 1, 1), ("weight-only", 2, 1)],
)
def test_layerwise_modes(tmp_path: Path, mode: str, weights: int, inputs: int) -> None:
    space = load_network(written(tmp_path, layerwise_opt=mode)).space(load_platform("paper"))
    roles = [variable.role for variable in space.variables]
    assert (roles.count("weight"), roles.count("input")) == (weights, inputs)
    assert space.size == 42 ** (weights + inputs)


def test_what_has_a_default_may_be_left_out(tmp_path: Path) -> None:
    found = load_network(written(tmp_path, f_obj=None, sub_layer_name=None))
    assert isinstance(found.objective(), Bits)
    assert all(not target.aliases for target in found.targets())


@pytest.mark.parametrize(
    "name",
    sorted({f.name for f in dataclasses.fields(NetworkDescriptor) if f.default is dataclasses.MISSING} - {"file"}),
)
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError, match=f"^net.py has no {name}") as caught:
        load_network(written(tmp_path, **{name: None}))
    assert caught.value.help


def test_a_slip_of_the_pen_is_seen(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="has no cmd_fullset; it has cmd_fulset"):
        load_network(written(tmp_path, "cmd_fulset = 'x'", cmd_fullset=None))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("platform", 3, "must be a text, not 3"),
        ("cmd_smallset", "  ", "must be a text"),
        ("cmd_fullset", ["a", "b"], "must be a text"),
        ("err_margin", "7%", "must be a number from 0 and below 1"),
        ("err_margin", 1, "must be a number from 0 and below 1, not 1"),
        ("err_margin", -0.1, "must be a number"),
        ("err_margin", True, "must be a number"),
        ("layer_name", "conv1", "must be a list, not 'conv1'"),
        ("layer_name", [], "lists no layers"),
        ("layer_name", ["conv1", 2], "2 is no name"),
        ("layer_name", ["conv1", "conv 2"], "is no name for a line"),
        ("layer_name", ["conv1", "a#b"], "is no name for a line"),
        ("layer_name", ["conv1", "conv1"], "'conv1' is there twice"),
        ("sub_layer_name", [["a"]], "has 1 elements for 2 layers"),
        ("sub_layer_name", [[], "ab"], "must be a list of names for every layer, not 'ab'"),
        ("sub_layer_name", [["a"], ["a"]], "'a' is there twice"),
        ("sub_layer_name", [["conv2"], []], "'conv2' is there twice, or is a layer"),
        ("layerwise_opt", "ALL", "'ALL' is no mode"),
        ("wgt_size", [500], "has 1 elements for 2 layers"),
        ("wgt_size", [500, -1], "-1 is no size"),
        ("wgt_size", [500, 2.5], "2.5 is no size"),
        ("act_size", [784, 0], "0 is no size"),
        ("act_size", 784, "must be a list, not 784"),
        ("act_max_abs", [1.0, -2.0], "-2.0 is no magnitude"),
        ("wgt_max_abs", [1.0, "2"], "'2' is no magnitude"),
        ("wgt_max_abs", [1.0, 2.0, 3.0], "has 3 elements for 2 layers"),
        ("get_result_regex", "Accuracy : (.*", "does not compile"),
        ("get_result_regex", "Accuracy : .*", "has no group"),
        ("f_obj", 3, "is no objective"),
        ("timeout", 0, "must be a number above 0"),
        ("timeout", "1h", "must be a number above 0"),
        ("config_file", "", "must be a text"),
        ("small_share", 2, "must be a number above 0 and to 1"),
    ],
)
def test_fields_that_are_wrong(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        load_network(written(tmp_path, **{name: value}))
    assert caught.value.message.startswith(f"net.py: {name}: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')"])
def test_magnitudes_are_finite(tmp_path: Path, value: str) -> None:
    with pytest.raises(CompileError, match=r"net.py: act_max_abs: (nan|inf) is no magnitude"):
        load_network(written(tmp_path, f"act_max_abs = [1, {value}]", act_max_abs=None))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    name=st.sampled_from(sorted(TABLE_3)),
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists),
)
def test_any_value_is_taken_or_refused_by_name(tmp_path: Path, name: str, value: Any) -> None:
    source = repr(value).replace("nan", "float('nan')").replace("inf", "float('inf')")
    file = written(tmp_path, f"{name} = {source}", **{name: None})
    error = None
    try:
        assert len(load_network(file).targets()) == 4
    except CompileError as raised:
        error = raised
    assert error is None or (name in error.message and "\n" not in error.message)


# ---- objectives


def test_an_objective_may_be_a_function_of_the_descriptor(tmp_path: Path) -> None:
    function = "def f_obj(formats, targets):\n    return sum(t.size for t in targets) + formats['conv1.weight'].width\n"
    objective = load_network(written(tmp_path, function, f_obj=None)).objective()
    assert objective({"conv1.weight": FLOAT32}) == 500 + 25000 + 784 + 2880 + 32
    with pytest.raises(CompileError, match=r"net\.py: f_obj raised KeyError"):
        objective({})


def test_an_objective_may_be_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def cost(formats, targets):\n    return 7")
    assert load_network(written(tmp_path, f_obj="mine.py:cost")).objective()({}) == 7
    for text, message in (("their.py:cost", "no such file"), ("mine.py:price", "no function"), ("energy", "network")):
        with pytest.raises(CompileError, match=rf"net\.py: f_obj: .*{message}"):
            load_network(written(tmp_path, f_obj=text)).objective()


def test_the_identity_changes_with_what_accuracies_depend_on(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def cost(formats, targets):\n    return 7")
    first = load_network(written(tmp_path)).identity()
    assert load_network(written(tmp_path)).identity() == first
    assert load_network(written(tmp_path, err_margin=0.01, timeout=9)).identity() == first
    for change in ({"cmd_smallset": "x"}, {"get_result_regex": "(x)"}, {"wgt_size": [1, 2]}, {"f_obj": "mine.py:cost"}):
        assert load_network(written(tmp_path, **change)).identity() != first
    before = load_network(written(tmp_path, f_obj="mine.py:cost")).identity()
    (tmp_path / "mine.py").write_text("def cost(formats, targets):\n    return 8")
    assert load_network(written(tmp_path, f_obj="mine.py:cost")).identity() != before


# ---- commands


def test_small_and_full_set_have_their_own_commands(tmp_path: Path) -> None:
    found = CommandJudge(load_network(written(tmp_path)))
    assert found.accuracy(candidate(), full=False) == 0.9
    assert found.accuracy(candidate(), full=True) == 0.95
    assert (found.share(True), found.share(False), found.images) == (1.0, 0.1, None)


def test_the_configuration_is_the_papers(tmp_path: Path) -> None:
    found = judge(tmp_path, "cp {config} copy.txt; echo 'Accuracy : 1'")
    found.accuracy(candidate(), full=True)
    assert (tmp_path / "copy.txt").read_text() == "conv1.input FIXED 15 -3\nconv1.weight EXP 8\nconv2.weight FLOAT 32\n"


def test_a_command_without_a_placeholder_finds_the_file_where_it_runs(tmp_path: Path) -> None:
    found = judge(tmp_path, "grep -c EXP formats.txt | sed 's/^/Accuracy : /'", config_file="formats.txt")
    assert not found.parallel
    assert found.accuracy(candidate(), full=True) == 1
    assert found.accuracy(candidate(conv1_weight="EXP 4", conv1_input="EXP 3"), full=True) == 2
    assert judge(tmp_path, "echo {config}").parallel


def test_folders_and_files_may_have_blanks_in_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder; with 'quotes'"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert judge(folder, "cat {config} >/dev/null && echo Accuracy : 1").accuracy(candidate(), full=True) == 1
    assert [path.name for path in folder.iterdir()] == ["net.py"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Accuracy : 0.5\\n", 0.5),
        ("Accuracy : 0.5", 0.5),
        ("Accuracy : 0.5\\r\\n", 0.5),
        ("Accuracy : 0.1\\nAccuracy : 0.2\\nend\\n", 0.2),
        ("Accuracy : 99.54\\n", 99.54),
        ("Accuracy :   9e-1  \\n", 0.9),
        ("\\377\\376 Accuracy : 1\\n", 1),
    ],
)
def test_the_last_match_counts(tmp_path: Path, printed: str, expected: float) -> None:
    assert judge(tmp_path, f"printf '{printed}'").accuracy(candidate(), full=True) == expected


def test_copies_in_other_processes_judge_alike(tmp_path: Path) -> None:
    function = "def f_obj(formats, targets):\n    return 1\n"
    descriptor = load_network(written(tmp_path, function, f_obj=None))
    copy = pickle.loads(pickle.dumps(CommandJudge(descriptor)))
    assert copy.identity() == descriptor.identity()
    assert copy.accuracy(candidate(), full=True) == 0.95


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("./missing {config}", "`./missing {config}` was not found"),
        ("./net.py {config}", "`./net.py {config}` cannot be executed"),
        (
            "echo first >&2; echo 'no such layer' >&2; exit 3",
            'ended with exit status 3; its last line was "no such layer"',
        ),
        ("echo on stdout; exit 1", 'ended with exit status 1; its last line was "on stdout"'),
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("echo hello; echo", "get_result_regex 'Accuracy : (.*)\\n' matches; its last line was \"hello\""),
        ("exit \\\n 5", "ended with exit status 5"),
        ("true", "matches; it printed nothing at all"),
        ("echo Accuracy : 99.5%", "printed the accuracy '99.5%', which is no number"),
        ("echo Accuracy : nan", "printed the accuracy nan"),
        ("echo Accuracy : inf", "printed the accuracy inf"),
        ("echo Accuracy : -1", "printed the accuracy -1"),
    ],
)
def test_commands_that_fail(tmp_path: Path, command: str, message: str) -> None:
    said = failure(judge(tmp_path, command))
    assert said.startswith(f"net.py: cmd_fullset: `{' '.join(command.split())}` ")
    assert message in said


def test_the_right_command_is_named(tmp_path: Path) -> None:
    found = CommandJudge(load_network(written(tmp_path, cmd_smallset="exit 4")))
    assert found.accuracy(candidate(), full=True) == 0.95
    assert failure(found, full=False).startswith("net.py: cmd_smallset: `exit 4` ended with exit status 4")


def test_a_long_last_line_is_shortened(tmp_path: Path) -> None:
    said = failure(judge(tmp_path, "printf 'x%.0s' $(seq 5000) >&2; exit 1"))
    assert len(said) < 500
    assert said.count("x") > 150


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    found = judge(folder, "echo {config}")
    (folder / "net.py").unlink()
    folder.rmdir()
    assert "No such file or directory" in failure(found)


def test_other_weights_cannot_be_given_to_a_command(tmp_path: Path) -> None:
    found = judge(tmp_path, "echo Accuracy : 1")
    with pytest.raises(CompileError, match="takes formats alone"):
        found.accuracy(Candidate({}, {"conv1.weight": np.ones(1, np.float32)}), full=True)


def test_a_hanging_command_ends_with_its_children(tmp_path: Path) -> None:
    command = "sleep 50 & echo $! > child; echo $$ > parent; echo waiting; sleep 60"
    began = time.monotonic()
    said = failure(judge(tmp_path, command, timeout=2))
    assert time.monotonic() - began < 10
    assert 'was still running when its time was over (2 s); its last line was "waiting"' in said
    assert "timeout = " in said
    assert _all_gone(tmp_path)


def test_nothing_is_left_of_a_command_that_ended(tmp_path: Path) -> None:
    found = judge(tmp_path, "sleep 50 & echo $! > child; echo $$ > parent; echo Accuracy : 1")
    began = time.monotonic()
    assert found.accuracy(candidate(), full=True) == 1
    assert time.monotonic() - began < 10
    assert _all_gone(tmp_path)


def _all_gone(folder: Path) -> bool:
    """Whether neither the shell nor its child runs, within seconds; a child is taken by init, perhaps late."""
    for _ in range(100):
        if not any(_runs(int((folder / name).read_text())) for name in ("parent", "child")):
            return True
        time.sleep(0.05)
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_no_zombies_are_left(tmp_path: Path) -> None:
    found = judge(tmp_path, "echo $$ >> parents; echo Accuracy : 1")
    for _ in range(3):
        found.accuracy(candidate(), full=True)
    parents = (tmp_path / "parents").read_text().split()
    assert len(parents) == 3
    assert not any(Path("/proc", parent).exists() for parent in parents)


def test_the_platform_is_the_one_the_network_names(tmp_path: Path) -> None:
    descriptor = load_network(written(tmp_path, platform="GPU"))
    platform = platform_of({"GPU": {"FLOAT": [16, 32]}, "FPGA": {"FIXED": [8]}}, descriptor.platform)
    assert descriptor.space(platform).size == 2**4
