"""Exit codes, one-line errors, and the progress line."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from features.common.command import (
    Subcommand,
    add_arguments,
    names_of,
    room_parser,
    run_chosen,
    run_command,
)
from features.common.errors import UserError, nearest
from features.common.progress import Progress
from features.recipe.arguments import corpus_root
from features.recipe.load import load_recipe


def toy(*names: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("toy")
    add_arguments(parser, *names)
    return parser


def run(main: object, *argv: str) -> int:
    return run_command(main, toy("recipe", "model", "jobs"), argv)


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda args: None) == 0
    assert run(lambda args: 1) == 1

    def refuse(args: argparse.Namespace) -> None:
        raise UserError("x.wav: broken; mend it")

    assert run(refuse) == 1
    assert capsys.readouterr().err == "toy: x.wav: broken; mend it\n"


def test_ctrl_c_and_sigterm_say_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def kill(number: int) -> object:
        return lambda args: os.kill(os.getpid(), number)

    handler = signal.getsignal(signal.SIGTERM)
    assert run(kill(signal.SIGINT)) == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert run(kill(signal.SIGTERM)) == 143
    assert run(kill(signal.SIGHUP)) == 129
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def fail(args: argparse.Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail)


COMMANDS = {
    "extract": ("extract", "plan", "fetch"),
    "features": (
        *("status", "lint", "corpora", "table", "verify", "list", "prune", "diff", "export"),
        "import",
    ),
    "models": ("train", "predict", "reproduce"),
    "fusion": ("fuse", "predict", "reproduce"),
    "evaluate": ("score", "layers", "report", "submission", "compare"),
}


@pytest.mark.parametrize("room", COMMANDS)
def test_a_room_shows_its_commands_and_each_of_them_its_usage(
    room: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = importlib.import_module(f"{room}.__main__").parser()
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([])
    shown = capsys.readouterr().err
    assert shown.startswith(f"usage: python -m {room} [-h] COMMAND ...")
    assert tuple(re.findall(r"^    ([a-z]+)(?: |$)", shown, re.MULTILINE)) == COMMANDS[room]
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["--help"])
    assert capsys.readouterr().out == shown
    for name in COMMANDS[room]:
        with pytest.raises(SystemExit, match="0"):
            parser.parse_args([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: python -m {room} {name} [-h]")


def test_an_error_names_the_command_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(args: argparse.Namespace) -> None:
        raise UserError(f"{args.recipe}: broken")

    toys = [Subcommand(name, refuse, name, ("recipe", "jobs")) for name in ("wind", "play")]
    parser = room_parser("toys", "Toys.", toys, bare="play")
    for argv, prog, recipe in (
        (["wind", "a.toml"], "toys wind", "a.toml"),
        (["play", "a.toml"], "toys play", "a.toml"),
        (["a.toml"], "toys", "a.toml"),
        (["--jobs", "2", "wind"], "toys", "wind"),
    ):
        assert run_command(run_chosen, parser, argv) == 1
        assert capsys.readouterr().err == f"{prog}: {recipe}: broken\n"
    for argv, fault in (
        (["wind", "--bad"], "toys wind: error: unrecognized arguments: --bad"),
        (["--bad"], "toys play: error: unrecognized arguments: --bad"),
        (["wind", "--jobs", "0"], "toys wind: error: argument --jobs"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run_command(run_chosen, parser, argv)
        assert fault in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        room_parser("toys", "Toys.", toys).parse_args(["a.toml"])
    assert "argument COMMAND: invalid choice: 'a.toml'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [("--jobs", "0"), ("--jobs", "x"), ("--nonsense",)])
def test_a_wrong_command_line_exits_with_2(argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(lambda args: 0, *argv)
    assert caught.value.code == 2


def test_arguments() -> None:
    seen = []
    run(lambda args: seen.append(args), "r.toml", "--model", "a, b")
    assert (seen[0].recipe, seen[0].model, seen[0].jobs) == ("r.toml", ["a", "b"], -1)


def test_progress_says_done_total_rate_and_time_left() -> None:
    progress = Progress("emodb/mfcc", 1000, "s of audio")
    progress.add(250)
    assert progress.line(50) == ("emodb/mfcc: 250 of 1,000 s of audio, 5.0/s, 2:30 left")


def test_plain_lines_come_ever_rarer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 59.9, 60.1, 120.2, 200.0, 240.3])
    monkeypatch.setattr("features.common.progress.time.monotonic", lambda: next(clock))
    progress = Progress("x", 300, "fits")
    for _ in range(6):
        progress.add(30)
    assert capsys.readouterr().err == (
        "x: 90 of 300 fits, 1.5/s, 2:20 left\n"
        "x: 120 of 300 fits, 1.0/s, 3:00 left\n"
        "x: 180 of 300 fits, 0.7/s, 2:40 left\n"
    )


def test_a_first_plain_line_can_come_sooner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.5, 2.0, 61.9, 62.1])
    monkeypatch.setattr("features.common.progress.time.monotonic", lambda: next(clock))
    progress = Progress("x", 10, "fits", 1.0)
    for _ in range(4):
        progress.add(1)
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "x: 2 of 10 fits", "x: 4 of 10 fits",
    ]  # fmt: skip


def test_what_takes_long_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.common.command.TELL_AFTER_S", 0.0)
    progress, asked = Progress("train a", 42, "fits"), threading.Semaphore(0)

    def now() -> str:
        asked.release()
        return "fitting fold s0: none, C 1.0 for 12 s"

    with progress.tell(now):
        for _ in range(2):  # whether there is anything to say, and what
            asked.acquire()
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("train a: 0 of 42 fits")
    assert first.endswith("; fitting fold s0: none, C 1.0 for 12 s")
    assert "fitting" not in progress.line(1.0)


def test_nearest_is_case_insensitive() -> None:
    assert nearest("MFCC", ["mfcc", "egemaps"]) == "; did you mean 'mfcc'?"


@pytest.mark.parametrize("text", ["abc", "0", "-2", "1.5", ""])
def test_a_count_of_processes_is_asked_for_in_words(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        toy("jobs").parse_args([f"--jobs={text}"])
    expected = f"got {text!r}, expected a count of processes, or -1 for all cores"
    assert expected in capsys.readouterr().err
    assert toy("jobs").parse_args(["--jobs=-1"]).jobs == -1


def test_names_are_read_in_one_form() -> None:
    assert names_of("a\u200b b, e\u0301,\u00a0,c\u00a0 d") == ["a b", "\u00e9", "c d"]


def test_a_corpus_lies_in_a_folder_of_either_form(tmp_path: Path) -> None:
    (tmp_path / "data/Zoe\u0308").mkdir(parents=True)
    (tmp_path / "elsewhere\u0301").mkdir()
    text = (
        'models = ["mfcc"]\ntarget = "mood"\n[corpora."Zo\u00eb"]\nreader = "manifest"\n'
        f'[corpora.b]\nreader = "manifest"\nroot = "{tmp_path}/elsewher\u00e9"\n'
        '[split]\nouter = "leave-one-speaker-out"\n[head]\nkind = "svc"\nselect = "uar"\n'
    )
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.toml")
    assert corpus_root(recipe, "Zo\u00eb", tmp_path / "data") == tmp_path / "data/Zoe\u0308"
    assert corpus_root(recipe, "b", tmp_path / "data") == tmp_path / "elsewhere\u0301"
