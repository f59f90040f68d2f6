"""Tables, manifests, other corpora's label files, and the plan of an extraction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from extract.plan.batches import BatchPlan, Pending, current_plan, make_batches, read_plan
from features.common.errors import CorpusError, StoreError
from features.corpora import CORPORA, read_corpus
from features.stores.failures import FAILURE_COLUMNS, read_failures
from features.utterances import Table, differences, read_table, table_hash, write_table
from tests.fuzz.tools import (
    ODD_TEXT,
    Damaged,
    bounded,
    damaged,
    misfit,
    odd_values,
    read_or_refused,
)

HEADER = ["path", "start", "end", "speaker", "utterance", "partition", "emotion", "arousal"]
ROWS = [
    ["u00.wav", "", "", "03", "", "train", "calm", "0.5"],
    ["u01.wav", "0.5", "1", "NA", "x", "test", "tense", "?"],
]
TARGETS = "Anger,Boredom,Calmness,Concentration,Determination,Excitement,Interest,Sadness,Tiredness"


def as_csv(rows: list[list[str]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\n" for row in rows)


MANIFEST = as_csv([HEADER, *ROWS]).encode()
LABELS = (f"filename,{TARGETS}\n" + "".join(f"a{i}.wav{',0.5' * 9}\n" for i in range(3))).encode()
SPEAKERS = b"filename,speaker,gender,language\na0.wav,1,f,en\na1.wav,2,m,es\n"
SCORES = "Nr\tDatei\terkannt\tnatürlich\n1\t03a01Fa.wav\t90,5\t80\n".encode("latin-1")


def use(table: Table, folder: Path) -> None:
    """Write, read and compare a table: it must come back as it was."""
    write_table(folder, table)
    again = read_table(folder)
    assert table_hash(again) == table_hash(table)
    assert differences(table, again) == []


@pytest.fixture(scope="module")
def corpora(folder: Path) -> Path:
    """Two corpora with a little audio beside their label files."""
    for name in ("hume-prosody/wav/a0", "hume-prosody/wav/a1", "emodb/wav/03a01Fa", "own/u00"):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, [0.0] * 160, 16_000)
    (folder / "hume-prosody/lab").mkdir()
    for name in ("train", "devel", "test"):
        text = LABELS.decode().replace("a", name[0]) if name != "train" else LABELS.decode()
        (folder / "hume-prosody/lab" / f"{name}.csv").write_text(
            text.replace(text.split("\n")[0], f"filename,{TARGETS}")
        )
    return folder


@given(data=damaged(MANIFEST, LABELS, MANIFEST.decode().encode("utf-16")))
def test_a_damaged_manifest(corpora: Path, data: bytes) -> None:
    (corpora / "own/manifest.csv").write_bytes(data)
    with read_or_refused(CorpusError):
        use(read_corpus("own", corpora / "own", reader="manifest"), corpora / "stores/own")


@given(
    cells=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), ODD_TEXT), max_size=6),
    options=st.just({})
    | st.fixed_dictionaries({}, optional={"labels": odd_values(), "targets": odd_values()})
    | st.dictionaries(
        st.sampled_from(["file", "labels", "targets", "x"]), odd_values(), max_size=2
    ),
)
def test_odd_cells_and_options(
    corpora: Path, cells: list[tuple[int, int, str]], options: dict[str, Any]
) -> None:
    rows = [list(HEADER), *map(list, ROWS)]
    for row, column, text in cells:
        rows[row][column] = text.replace(",", ";")
    (corpora / "own/manifest.csv").write_bytes(as_csv(rows).encode())
    with read_or_refused(CorpusError):
        table = read_corpus("own", corpora / "own", reader="manifest", options=options)
        use(table, corpora / "stores/own")


@given(
    name=st.sampled_from(["lab/train.csv", "lab/test.unmasked.csv", "lab/speakers.csv"]),
    data=damaged(LABELS, SPEAKERS),
)
def test_label_files_of_compare(corpora: Path, name: str, data: Damaged) -> None:
    path = corpora / "hume-prosody" / name
    kept = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(data)
        with read_or_refused(CorpusError):
            use(read_corpus("hume-prosody", corpora / "hume-prosody"), corpora / "stores/hume")
    finally:
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)


@given(data=damaged(SCORES))
def test_listeners_scores_of_emodb(corpora: Path, data: bytes) -> None:
    (corpora / "emodb/erkennung.txt").write_bytes(data)
    with read_or_refused(CorpusError):
        use(read_corpus("emodb", corpora / "emodb"), corpora / "stores/emodb")


@given(name=st.binary(min_size=1, max_size=12).filter(lambda one: not {0, 47} & set(one)))
def test_audio_of_any_name(corpora: Path, name: bytes) -> None:
    root = corpora / "names" / "wav"
    root.mkdir(parents=True, exist_ok=True)
    try:
        path = root / (name + b".wav").decode("utf-8", "surrogateescape")
        path.write_bytes(b"")
        for reader in ("emodb", "turev-db", "demo", "hume-prosody"):
            assert reader in CORPORA
            with read_or_refused(CorpusError):
                use(read_corpus(reader, corpora / "names"), corpora / "stores/names")
    finally:
        for one in root.iterdir():
            one.unlink()


@pytest.fixture(scope="module")
def table(corpora: Path) -> Path:
    (corpora / "own/manifest.csv").write_bytes(MANIFEST)
    write_table(corpora / "table", read_corpus("own", corpora / "own", reader="manifest"))
    return corpora / "table"


@given(data=st.data())
def test_a_damaged_table(table: Path, data: st.DataObject) -> None:
    kept = {name: (table / name).read_bytes() for name in ("utterances.csv", "utterances.json")}
    name = data.draw(st.sampled_from(sorted(kept)))
    whole = kept[name]
    fault = damaged(whole)
    if name.endswith("json"):
        fault |= misfit(json.loads(whole)).map(lambda one: Damaged(json.dumps(one).encode()))
    try:
        (table / name).write_bytes(data.draw(fault))
        with read_or_refused(CorpusError):
            read = read_table(table)
            table_hash(read)
            differences(read, read)
            write_table(table.parent / "again", read)
    finally:
        for one, content in kept.items():
            (table / one).write_bytes(content)


KEY = {"model": "toy", "layers": [0, 1]}
JOBS = [Pending("a", "00", 1.5), Pending("b", "11", 2.0), Pending("c", "22", 0.25)]
PLAN = {"key": KEY, "batches": [[[j.utterance, j.audio_hash, j.seconds] for j in JOBS]]}


@given(
    data=damaged(json.dumps(PLAN).encode())
    | misfit(PLAN).map(lambda one: Damaged(json.dumps(one).encode()))
)
def test_the_plan_of_an_extraction(folder: Path, data: bytes) -> None:
    (folder / "plan.json").write_bytes(data)
    with read_or_refused(StoreError):
        plan = read_plan(folder)
        assert plan is not None
        assert isinstance(plan.name, str)
        assert all(isinstance(job, Pending) for batch in plan.batches for job in batch)
    with read_or_refused(StoreError):
        current = current_plan(folder, KEY, JOBS, set(), 10.0)
        assert current.jobs() == {(job.utterance, job.audio_hash) for job in JOBS}


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
def test_deep_json(folder: Path, table: Path, depth: int) -> None:
    (folder / "plan.json").write_text('{"key": ' + "[" * depth + "]" * depth + ', "batches": []}')
    with read_or_refused(StoreError):
        read_plan(folder)
    kept = (table / "utterances.json").read_bytes()
    (table / "utterances.json").write_text('{"corpus": ' + "[" * depth + "]" * depth + "}")
    with read_or_refused(CorpusError):
        read_table(table)
    (table / "utterances.json").write_bytes(kept)


FAILURES = as_csv([FAILURE_COLUMNS, ["c", "a", "a.wav", "cut short", "00"]]).encode()


@given(data=damaged(FAILURES, FAILURES.decode().encode("utf-16")))
def test_a_failures_file(folder: Path, data: bytes) -> None:
    """One that cannot be read counts as none: what failed is tried again."""
    (folder / "toy.failures.csv").write_bytes(data)
    with bounded():
        frame = read_failures(folder / "toy.h5")
    assert list(frame.columns) == FAILURE_COLUMNS
    assert all(isinstance(cell, str) for cell in frame.to_numpy().ravel())


def test_a_plan_reads_back(folder: Path) -> None:
    plan = BatchPlan(KEY, make_batches(JOBS, 3.0))
    plan.write(folder)
    assert read_plan(folder) == plan
