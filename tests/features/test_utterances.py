"""The table on disk and its comparison, with text that looks like numbers and missing values."""

import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from features.common.errors import CorpusError
from features.common.findings import Finding
from features.utterances import (
    COLUMNS,
    Table,
    differences,
    read_table,
    table_hash,
    write_table,
)


def make_table(**changes):
    """Three utterances whose text looks like numbers and missing values, and awkward floats."""
    rows = {
        "corpus": ["c", "c", "c"],
        "utterance": ["01", "NA", "x, \"y\" ä"],
        "path": ["01.wav", "NA.wav", "x.wav"],
        "start": [math.nan, 0.1, 1 / 3],
        "end": [math.nan, 0.1 + 0.2, 1.0],
        "seconds": [1.0, 2.0, math.nan],
        "speaker": ["03", "NA", ""],
        "gender": ["", "nan", "None"],
        "language": ["de", "", ""],
        "session": ["1.0", "", ""],
        "sentence": ["", "", ""],
        "partition": ["train", "devel", "test"],
        "mood": ["calm", "", "tense"],
        "arousal": [0.1, math.nan, 1e-17 + 1 / 3],
        "audio_hash": ["00", "", ""],
        "file_hash": ["01", "", ""],
        "samples_hash": ["02", "silent", ""],
        "recording_hash": ["03", "", ""],
    }  # fmt: skip
    frame = pd.DataFrame({**rows, **changes})
    finding = Finding("names", 1, ("z",), "1 odd name: z")
    return Table(frame, {"mood": ("calm", "tense")}, ("arousal",), [finding], {"key": "c"})


def test_columns_stand_in_their_order():
    table = make_table()
    assert table.columns == list(table.rows.columns)
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS


def test_table_reads_back_as_it_was(tmp_path):
    table = make_table()
    write_table(tmp_path, table)
    back = read_table(tmp_path)
    pd.testing.assert_frame_equal(back.rows, table.rows, check_exact=True)
    assert (back.labels, back.targets, back.findings, back.corpus) == (
        table.labels, table.targets, table.findings, table.corpus
    )  # fmt: skip
    assert back.rows["speaker"].tolist() == ["03", "NA", ""]


def test_random_floats_read_back_to_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3) * 10.0 ** rng.integers(-300, 300, 3)
    write_table(tmp_path, make_table(arousal=values))
    assert read_table(tmp_path).rows["arousal"].to_numpy().tobytes() == values.tobytes()


def test_unchanged_table_is_not_written_again(tmp_path):
    write_table(tmp_path, make_table())
    before = [
        (tmp_path / name).stat().st_mtime_ns for name in sorted(p.name for p in tmp_path.iterdir())
    ]
    write_table(tmp_path, make_table())
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "utterances.csv",
        "utterances.json",
    ]
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == before


def test_missing_table_says_how_to_make_it(tmp_path):
    with pytest.raises(CorpusError, match="no utterance table there.*make extract.*features table"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("utterances.json", "{", "utterances.json: not readable"),
        ("utterances.json", "{}", "utterances.json: not readable"),
        ("utterances.csv", "a,b\n1,2\n", "columns are not those"),
        ("utterances.csv", None, "column arousal: could not convert string to float: 'x'"),
    ],
)
def test_damaged_table_is_refused(tmp_path, name, text, match):
    write_table(tmp_path, make_table())
    path = tmp_path / name
    path.write_text(path.read_text("utf-8").replace(",0.1,00", ",x,00") if text is None else text)
    with pytest.raises(CorpusError, match=match):
        read_table(tmp_path)


def test_hash_ignores_row_order_and_incidental_columns():
    table = make_table()
    turned = Table(table.rows.iloc[::-1].reset_index(drop=True), table.labels, table.targets)
    moved = make_table(
        path=["a", "b", "c"], seconds=[9.0] * 3, audio_hash=["1", "2", "3"],
        file_hash=["4", "5", "6"], samples_hash=["7", "8", "9"], recording_hash=["", "x", "y"],
    )  # fmt: skip
    assert table_hash(turned) == table_hash(moved) == table_hash(table)


@pytest.mark.parametrize(
    "changes",
    [
        {"mood": ["tense", "", "tense"]},
        {"arousal": [0.1, math.nan, 0.34]},
        {"arousal": [0.1, 0.0, 1e-17 + 1 / 3]},
        {"speaker": ["3", "NA", ""]},
        {"partition": ["train", "devel", "devel"]},
        {"utterance": ["1", "NA", "x"]},
        {"start": [0.0, 0.1, 1 / 3]},
    ],
)
def test_hash_and_differences_see_each_change(changes):
    old, new = make_table(), make_table(**changes)
    assert table_hash(new) != table_hash(old)
    lines = differences(old, new)
    assert lines
    assert any(next(iter(changes)) in line or "rows new" in line for line in lines)


def test_hash_of_some_columns():
    old, new = make_table(), make_table(arousal=[1.0, 1.0, 1.0])
    assert table_hash(old, ["mood"]) == table_hash(new, ["mood"])
    assert table_hash(old, ["arousal"]) != table_hash(new, ["arousal"])


def test_hash_sees_another_class_order():
    old, new = make_table(), make_table()
    new.labels = {"mood": ("tense", "calm")}
    assert table_hash(old) != table_hash(new)
    assert differences(old, new) == ["label set mood: [calm, tense] became [tense, calm]"]


def test_no_difference_between_equal_tables():
    moved = make_table(
        path=["a", "b", "c"], seconds=[9.0] * 3, audio_hash=["1", "2", "3"],
        file_hash=["4", "5", "6"], samples_hash=["7", "8", "9"], recording_hash=["", "x", "y"],
    )  # fmt: skip
    assert differences(make_table(), moved) == []


def test_differences_name_rows_and_values():
    old = make_table()
    new = make_table(mood=["tense", "", "tense"], utterance=["01", "NA", "z"])
    assert differences(old, new) == [
        '1 row gone: c/x, "y" ä',
        "1 row new: c/z",
        "mood differs in 1 row: c/01 (calm became tense)",
    ]


def test_json_holds_plain_values(tmp_path):
    write_table(tmp_path, make_table())
    about = json.loads((tmp_path / "utterances.json").read_text("utf-8"))
    assert about["labels"] == {"mood": ["calm", "tense"]}
    assert about["findings"][0]["text"] == "1 odd name: z"


@pytest.mark.parametrize("more", [",1", ""])
def test_rows_of_another_width_are_refused(tmp_path, more):
    write_table(tmp_path, make_table())
    path = tmp_path / "utterances.csv"
    header, *lines = path.read_text().splitlines()
    lines = [line + more if more else line.rpartition(",")[0] for line in lines]
    path.write_text("\n".join([header, *lines]))
    with pytest.raises(CorpusError, match=r"utterances.csv: row 1 has 1[79] fields, the header 18"):
        read_table(tmp_path)


def test_nesting_without_end_is_refused(tmp_path):
    write_table(tmp_path, make_table())
    (tmp_path / "utterances.json").write_text("[" * 100_000)
    with pytest.raises(CorpusError, match=r"utterances.json: not readable .*nested too deeply"):
        read_table(tmp_path)


def test_a_table_of_before_the_other_hashes_is_read(tmp_path):
    write_table(tmp_path, make_table())
    path = tmp_path / "utterances.csv"
    new = ("file_hash", "samples_hash", "recording_hash")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=list(new))
    frame.to_csv(path, index=False, lineterminator="\n")
    back = read_table(tmp_path)
    wanted = make_table(**{name: [""] * 3 for name in new})
    pd.testing.assert_frame_equal(back.rows, wanted.rows, check_exact=True)
    assert table_hash(back) == table_hash(make_table())


def a_pipe(path):
    os.mkfifo(path)


def a_device(path):
    path.symlink_to("/dev/zero")


def a_folder(path):
    path.mkdir()


def too_large(path):
    path.touch()
    os.truncate(path, 1 << 42)


@pytest.mark.parametrize("name", ["utterances.csv", "utterances.json"])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (a_pipe, "is a pipe: remove it or put the file there"),
        (a_device, "is a device: remove it or put the file there"),
        (a_folder, "is a folder: remove it or put the file there"),
        (too_large, f"is too large: at most {1 << 30:,} bytes of such a file are read: is it the "
                    "right one?"),
    ],
)  # fmt: skip
def test_what_stands_in_the_place_of_a_table_is_named(tmp_path, name, make, told):
    write_table(tmp_path, make_table())
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(CorpusError) as caught:
        read_table(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: {told}"
