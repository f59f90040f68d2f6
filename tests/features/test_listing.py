"""`python -m features corpora`, and what `table` prints of speakers."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.__main__ import parser
from features.common.command import run_chosen, run_command
from features.common.words import counted
from features.corpora import CORPORA
from features.corpora.listing import describe
from tests.features.test_named_corpora import listing, touch
from tests.trees import write_evaluations


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run_command(run_chosen, parser(), [*argv])
    return code, "".join(capsys.readouterr())


def test_all_corpora_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "corpora")
    assert code == 0
    blocks = dict(block.split(": ", 1) for block in text.split("\n\n"))
    assert list(blocks) == list(CORPORA)
    for key, record in CORPORA.items():
        for part in (record.title, record.licence, record.homepage, record.layout):
            assert part in blocks[key]
        for labels in record.labels.values():
            assert ", ".join(labels) in blocks[key]
    assert "20,000 utterances, 100 speakers" in blocks["jtes"]
    assert "tree: unverified" in blocks["jtes"]
    assert "tree: verified" in blocks["ravdess"]


def test_some_corpora_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "corpora", "tess", "emovo")
    assert (code, text) == (
        0, f"{describe(CORPORA['tess'])}\n\n{describe(CORPORA['emovo'])}\n"
    )  # fmt: skip
    code, text = run(capsys, "corpora", "tess", "emvo")
    assert code == 1
    assert text.startswith(
        "python -m features corpora: no corpus is called 'emvo'; did you mean 'emovo'"
    )


def table(capsys, root: Path, *argv: str) -> list[str]:
    stores = str(root.parent / "stores")
    code, text = run(capsys, "table", *argv, "--root", str(root), "--stores", stores)
    assert code == 0
    return text.splitlines()


def test_table_prints_counts_and_what_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tess"
    root.mkdir()
    for name in ("OAF_back_angry", "OAF_bar_ps", "YAF_bar_ps", "notes"):
        (root / f"{name}.wav").touch()
    lines = table(capsys, root, "tess")
    assert "3 utterances, 2 speakers" in lines
    assert "speaker: OAF 2, YAF 1" in lines
    assert "gender: female 3" in lines
    assert "emotion: anger 1, pleasant surprise 2" in lines
    odd = [line for line in lines if line.startswith("odd: ")]
    assert len(odd) == 4
    assert odd[2] == "odd: 1 class of emotion has one row: anger"
    assert odd[3].startswith("odd: 3 audio files are empty: ")
    assert odd[0].startswith("odd: 1 audio file whose name is not <OAF|YAF>_<word>_<emotion> ")
    assert "utterances 3 (published: 2800)" in odd[1]


@pytest.mark.parametrize(
    ("speakers", "line"),
    [
        (["", ""], None),
        (["a", "", "b"], "speaker: 1 each"),
        (["a", "a", ""], "speaker: (none) 1, a 2"),
        ([*map(str, range(25)), "3"], "speaker: 1 to 2 each"),
    ],
)
def test_table_prints_speakers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], speakers: list[str], line: str | None
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    rows = [f"{n}.wav,{speaker}" for n, speaker in enumerate(speakers)]
    (root / "manifest.csv").write_text("\n".join(["path,speaker", *rows]), encoding="utf-8")
    lines = table(capsys, root, "mine")
    known = len({one for one in speakers if one})
    assert lines[0] == f"{len(speakers)} utterances, {counted(known, 'speaker')}"
    assert [one for one in lines if one.startswith("speaker: ")] == ([line] if line else [])


PUBLISHED = {
    "ravdess": [
        "1440 utterances, 24 speakers",
        "speaker: 60 each",
        "gender: female 720, male 720",
        "emotion: neutral 96, calm 192, happy 192, sad 192, angry 192, fearful 192, disgust 192, "
        "surprised 192",
    ],
    "tess": [
        "2800 utterances, 2 speakers",
        "speaker: 1400 each",
        "emotion: anger 400, disgust 400, fear 400, happiness 400, neutral 400, "
        "pleasant surprise 400, sadness 400",
        "emotion by the map four-class: angry 400, happy 400, neutral 400, sad 400; 1600 in all",
    ],
    "iemocap": [
        "5531 utterances, 10 speakers",
        "session: Session1 1085, Session2 1023, Session3 1151, Session4 1031, Session5 1241",
        "emotion: angry 1103, happy 595, excited 1041, sad 1084, neutral 1708",
        "emotion by the map four-class: angry 1103, happy 1636, neutral 1708, sad 1084; 5531 in "
        "all",
        "emotion by the map four-class-without-excited: angry 1103, happy 595, neutral 1708, "
        "sad 1084; 4490 in all",
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_of_a_published_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    files = listing(name)
    root = touch(tmp_path / name, *(one["path"] for one in files))
    if name == "iemocap":
        write_evaluations(root, ((Path(one["path"]).stem, one["label"]) for one in files))
    lines = table(capsys, root, name)
    assert [line for line in PUBLISHED[name] if line not in lines] == []
    assert f"odd: {len(files)} audio files are empty: " in "\n".join(lines)
    odd = [line for line in lines if line.startswith("odd: ") and "are empty" not in line]
    # The listing has IEMOCAP's five categories alone; its three dimensions here are all the same.
    constant = [line for line in odd if line.endswith(": nothing can be learned of it")]
    assert len(constant) == 3 * (name == "iemocap")
    assert len(odd) - len(constant) == (name == "iemocap")
    written = (tmp_path / "stores" / name / "utterances.csv").read_text(encoding="utf-8")
    assert written.count("\n") == len(files) + 1
