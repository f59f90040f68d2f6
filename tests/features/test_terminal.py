"""Names that turn, move or hide the text around them are written out."""

from __future__ import annotations

import argparse
import sys
import unicodedata

import pytest

from features.common.command import run_command
from features.common.errors import UserError
from features.common.terminal import shown, shown_streams

RIGHT_TO_LEFT = "anger\u202egnp.wav"


def test_all_that_is_no_letter_and_acts_is_written_out() -> None:
    """By Unicode's own classes of direction; joiners, which scripts need, stay."""
    acting = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    found = {
        one
        for one in every
        if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs")
        or unicodedata.bidirectional(one) in acting
        or one in "\u200e\u200f\u061c"
    } - {"\t", "\n"}
    assert len(found) == 63 + 2 + 2048 + 9 + 3
    expected = [ascii(one)[1:-1] if one in found else one for one in every]
    assert shown("".join(every)) == "".join(expected)


@pytest.mark.parametrize("text", ["", "a\tb\n", "é 中文 عربي\u200c \U0001f600", r"a\u202e"])
def test_other_text_stays(text: str) -> None:
    assert shown(text) == text


def test_what_a_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr

    def main(args: object) -> None:
        print("ok:", RIGHT_TO_LEFT, "\rnone", "\x1b[A", "\x9b2J")
        sys.stdout.writelines(["\x07"])
        print("odd \udcff", file=sys.stderr)
        sys.stderr.write(f"\r{RIGHT_TO_LEFT}\rb\r")
        sys.stderr.write("\n\x1b[A\r")
        raise UserError(f"{RIGHT_TO_LEFT}: \x1b]0;title\x07 broken")

    assert run_command(main, argparse.ArgumentParser("toy"), []) == 1
    found = capsys.readouterr()
    assert found.out == "ok: anger\\u202egnp.wav \\rnone \\x1b[A \\x9b2J\n\\x07"
    moved = "\ranger\\u202egnp.wav\\rb\r\n\x1b[A\r"
    told = "toy: anger\\u202egnp.wav: \\x1b]0;title\\x07 broken\n"
    assert found.err == f"odd \\udcff\n{moved}{told}"
    assert (sys.stdout, sys.stderr) == before


def test_everything_else_is_the_streams_own(capfd: pytest.CaptureFixture[str]) -> None:
    own = sys.stderr
    with shown_streams():
        assert sys.stderr.fileno() == own.fileno()
        assert sys.stderr.encoding == own.encoding
        assert sys.stderr.write("\x07b") == 2
        sys.stderr.buffer.write(b"\x07")
    assert capfd.readouterr().err == "\\x07b\x07"
