"""The command line as such: help, mistakes, exit codes, streams; not what the commands answer."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subtone.cli import entry, outcome
from subtone.cli.app import command
from subtone.errors import CorpusError
from tests.cli_cases import EXAMPLES, ROOT, Ended, subtone_in_a_process, write_corpus
from tests.test_package import imported_by


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = entry.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def leaves(of: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    of = command() if of is None else of
    if not hasattr(of, "commands"):
        yield path, of
        return
    for name, inner in of.commands.items():
        yield from leaves(inner, (*path, name))


COMMANDS = [path for path, _ in leaves()]


def test_the_commands_are_those_that_were_promised() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "predict", "models", "extract", "pretrain", "train", "evaluate", "report", "doctor",
        "corpus list", "corpus check", "corpus export", "recipe list", "recipe show", "recipe run",
        "intensity score", "intensity train", "study list", "study show", "study run",
    }  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    code = "import subtone.cli.app\nfrom subtone.cli.entry import run\nassert run(['{}', '--help']) == 0"
    assert imported_by(code.format("--debug")) == set()
    assert imported_by(code.format("predict")) == set()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_examples(call: Any, path: tuple[str, ...]) -> None:
    ended = call(*path, "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert "Examples" in ended.out
    assert f"subtone {' '.join(path)}" in ended.out.split("Examples")[1]


def shown_commands() -> list[str]:
    """All command lines that help and documentation show."""
    texts = [str(leaf.epilog) for _, leaf in leaves()] + [str(command().epilog)]
    lines = [
        re.sub(r"\[/?\w+\]", "", line).replace("\\[", "[") for text in texts for line in text.split("\n")
    ]
    for page in (ROOT / "README.md", EXAMPLES / "README.md"):
        for block in re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines += [line.split("   #")[0] for line in block.splitlines()]
    found = []
    for line in lines:
        ours = [part.strip() for part in line.split("|") if part.strip().startswith("subtone ")]
        found += [re.split(r" > ", part)[0] for part in ours]
    return sorted(set(found))


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_line_that_is_shown_is_a_valid_one(line: str) -> None:
    whole = command()
    called = []
    for _, leaf in leaves(whole):
        leaf.callback = lambda **arguments: called.append(arguments)
    whole.main(args=shlex.split(line)[1:], prog_name="subtone", standalone_mode=False)
    assert len(called) == 1


def test_many_command_lines_are_shown() -> None:
    assert len(shown_commands()) > 20  # else the test above has lost its subject


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("preditc a.wav", "no such command 'preditc'; did you mean 'predict'? (see 'subtone --help')"),
        ("corpus chek ravdess .", "did you mean 'check'? (see 'subtone corpus --help')"),
        ("predict a.wav --formt json", "no such option '--formt'; did you mean '--format'?"),
        ("predict a.wav --format jsno", "'jsno' is not one of table, json, csv; did you mean 'json'?"),
        ("predict a.wav --per windw", "did you mean 'window'?"),
        ("predict a.wav --window three --per window", "'--window'"),
        ("predict a.wav --window 3", "--window and --hop go with --per window"),
        ("predict a.wav --channel left", "--channel left: must be mix, or the number of a channel"),
        ("predict a.wav --plot out.jpg", "must end in .png, .pdf or .svg"),
        ("predict - -", "given twice"),
        ("predict a.wav --labels ,", "names nothing"),
        ("predict a.wav --model defalt", "defalt"),
        ("predict", "missing argument"),
        ("corpus check ravdes .", "unknown corpus 'ravdes'; did you mean 'ravdess'?"),
        ("corpus check ravdess no/such/folder", "no/such/folder: no such folder"),
        ("corpus export ravdess . --out table.xls", ".parquet or .csv"),
        ("corpus export ravdess . --out no/such/folder/table.csv", "is not there; make it first"),
        ("recipe show sapp", "did you mean 'sap'?"),
        ("recipe run sap --corpus ravdess --out x", "--corpus ravdess: must be NAME=PATH"),
        ("recipe run sap --corpus ravdes=. --out x", "did you mean 'ravdess'?"),
        ("recipe run sap --corpus ravdess=. --out x --set training.stps=3", "did you mean 'steps'?"),
        ("recipe run sap --corpus a=. --corpus a=. --out x", "'a' is given twice"),
        ("evaluate --corpus emodb=. --merge excitement", "must be FROM=TO"),
        ("evaluate --corpus emodb=. --model no/such/model", "no/such/model"),
        ("extract a.wav --store x --upstream fbank --detector silro", "did you mean 'silero'?"),
        ("models defalt", "no model 'defalt' ships with Subtone"),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out_and_exit_code_2(
    call: Any, line: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes((EXAMPLES / "statement.wav").read_bytes())
    ended = call(*shlex.split(line))
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("subtone: error: ")
    assert ended.err.count("\n") == 1
    assert hint in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"], "something was left behind"


def test_no_arguments_show_the_help_and_count_as_wrong_usage(call: Any) -> None:
    for arguments in ((), ("corpus",), ("recipe",)):
        ended = call(*arguments)
        assert ended.code == 2
        assert "Usage: subtone" in ended.out + ended.err


def test_the_version_is_printed(call: Any) -> None:
    ended = call("--version")
    assert (ended.code, ended.out) == (0, "subtone 0.1.0\n")


def broken(error: Exception) -> Any:
    def check(*_: object, **__: object) -> None:
        raise error

    return check


def test_a_traceback_is_printed_only_when_asked_for(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(outcome.DEBUG_VARIABLE, "")
    monkeypatch.setattr("subtone.corpora.check.check", broken(CorpusError("it is broken")))
    quiet = call("corpus", "check", "ravdess", ".")
    assert (quiet.code, quiet.err) == (2, "subtone: error: it is broken\n")
    loud = call("--debug", "corpus", "check", "ravdess", ".")
    assert loud.code == 2
    assert "Traceback" in loud.err
    assert loud.err.endswith("subtone: error: it is broken\n")


def test_a_fault_of_ours_is_one_line_too(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(outcome.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr("subtone.corpora.check.check", broken(ZeroDivisionError("first\nsecond")))
    ended = call("corpus", "check", "ravdess", ".")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "unexpected ZeroDivisionError: first; this is a fault of Subtone" in ended.err


def test_a_full_disk_is_one_line(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "subtone.corpora.check.check", broken(OSError(28, "No space left on device", "x.csv"))
    )
    ended = call("corpus", "check", "ravdess", ".")
    assert (ended.code, ended.err) == (2, "subtone: error: x.csv: no space left on device\n")


def test_an_interrupt_is_exit_code_130_without_a_traceback() -> None:
    process = subtone_in_a_process(
        "predict",
        "-",
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(bytes(1 << 20))  # more than a pipe holds: once it is written, somebody reads
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    process.stdin.close()
    assert process.stderr.read() == b"subtone: interrupted\n"
    process.stderr.close()


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_reader_that_went_away_ends_the_run_silently(form: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subtone_in_a_process("corpus", "list", "--format", form, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 141
    process.stderr.close()


def test_progress_goes_to_a_terminal_only_and_results_to_stdout(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    manifest = write_corpus(tmp_path / "corpus")
    command_line = ("corpus", "check", "manifest", manifest, "--format", "json")

    ours, theirs = pty.openpty()
    process = subtone_in_a_process(*command_line, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert process.stdout is not None
    out = process.stdout.read()
    process.wait(timeout=120)
    process.stdout.close()
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # how a terminal says that the other side is gone
        pass
    os.close(ours)
    assert b"Reading" in shown
    assert json.loads(out)["clips"] == 16

    process = subtone_in_a_process(*command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    plain, errors = process.communicate(timeout=120)
    assert errors == b""
    assert plain == out
