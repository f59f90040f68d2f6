"""The command of this room, and a corpus that it can look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.__main__ import main as extract
from extract.__main__ import parser as extract_parser
from features.__main__ import parser
from features.common.command import run_chosen, run_command


@pytest.fixture
def extracted(tmp_path: Path, make_corpus, tones_recipe) -> Path:
    """A recipe over two models and a manifest corpus, of which one is extracted."""
    make_corpus()
    recipe = tones_recipe('["mfcc", "log-mel"]')
    where = ["--data", str(tmp_path / "data"), "--stores", str(tmp_path / "stores")]
    extract(extract_parser().parse_args([str(recipe), *where, "--members", "mfcc"]))
    return recipe


@pytest.fixture
def features(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run a sub-command; gives exit code and output."""

    def call(*argv: str, stores: str = "stores") -> tuple[int, str]:
        capsys.readouterr()
        where = [] if argv[0] == "diff" else ["--stores", str(tmp_path / stores)]
        code = run_command(run_chosen, parser(), [*argv, *where])
        return code, "".join(capsys.readouterr())

    return call
