"""What `python -m features` says of frames: list, status, verify, prune, diff, export."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from features.common.lock import WriterLock
from features.stores.frames import FrameStore
from features.stores.key import frames_path
from features.utterances import read_table, write_table
from tests.features.test_matrix import make_store, make_table, write_recipe
from tests.features.test_sequences import make_frames

LENGTHS = (3, 9, 4, 30)


@pytest.fixture(params=["frames", "segments"])
def kind(request: pytest.FixtureRequest) -> str:
    """What lies beside the stores."""
    return str(request.param)


@pytest.fixture
def stores(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> Path:
    """Corpora a and b with a store and frames of toy; of b frames of one utterance lack."""
    folder = tmp_path / "stores"
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for corpus in "ab":
        ids = [f"{corpus}{i}" for i in range(4)]
        make_table(folder, corpus, ids, ["low", "high", "low", "odd"])
        make_store(folder, corpus, rng.random((3, 4, 5), dtype=np.float32), ids)
        frames = {i: rng.random((2, n, 5)) for i, n in zip(ids, LENGTHS, strict=True)}
        if corpus == "b":
            del frames["b3"]
        make_frames(folder, corpus, frames, n_segments=most(kind))
    return folder


def most(kind: str) -> int | None:
    """Segments of an utterance, or None."""
    return 30 if kind == "segments" else None


def test_list_and_status_have_a_line_of_frames(
    stores: Path, tmp_path: Path, features, kind: str
) -> None:
    code, text = features("list")
    lines = [line.split() for line in text.splitlines() if f"({kind})" in line]
    assert code == 0
    assert [line[:3] for line in lines] == [["a", "toy", f"({kind})"], ["b", "toy", f"({kind})"]]
    assert lines[0][3:7] == ["x", "float32,", "float16", "2"]
    assert lines[0][7] == "4"
    assert f"  46 {kind}  " in text
    assert "4 in all" in text
    recipe = str(write_recipe(tmp_path))
    code, text = features("status", recipe)
    assert f"b       toy ({kind})  partial (lacks 1)  3 of 4" in text
    assert f"a       toy ({kind})  complete           4 of 4" in text
    frames_path(stores, "a", "toy", kind).unlink()
    (tmp_path / "r.toml").write_text(
        (tmp_path / "r.toml").read_text()
        + ("[extract]\nsegments = 8\n" if most(kind) else '[extract]\nframes = ["last"]\n')
    )
    _, text = features("status", recipe)
    assert f"a       toy ({kind})  missing" in text


def test_verify_names_damaged_frames(stores: Path, features, kind: str) -> None:
    assert features("verify")[1].count(": ok") == 4
    path = frames_path(stores, "a", "toy", kind)
    with FrameStore(path) as store:
        raw, values = bytearray(path.read_bytes()), store.mapped()[1].tobytes()
    raw[raw.index(values)] ^= 1
    path.write_bytes(raw)
    code, text = features("verify", "--corpus", "a", "--names")
    assert code == 1
    assert f"{path}: not as it should be" in text
    assert "damaged: /frames, layer 2, utterances a0, a1, a2, a3\n" in text
    assert "make extract MODEL=toy VERIFY=1 computes the damaged blocks again" in text


def test_prune_takes_frames_with_their_rows_and_their_store(
    stores: Path, tmp_path: Path, features, kind: str
) -> None:
    recipe = str(write_recipe(tmp_path))
    left = stores / "a" / kind / ".toy.h5.0-1-2.tmp"
    left.write_bytes(b"left")
    with FrameStore(frames_path(stores, "a", "toy", kind)) as store:
        before = store.mapped().copy()
    table = read_table(stores / "a")
    table.rows = table.rows[table.rows["utterance"] != "a1"].reset_index(drop=True)
    write_table(stores / "a", table)
    _, text = features("prune", recipe)
    path = frames_path(stores, "a", "toy", kind)
    assert f"would rewrite: {path}: 180 B, 1 row that the table has no more" in text
    assert f"would remove: {left}" in text
    code, text = features("prune", recipe, "--yes")
    assert code == 0
    assert not left.exists()
    with FrameStore(path) as store:
        assert store.index["utterance"].tolist() == ["a0", "a2", "a3"]
        assert store.verify() == []
        expected = np.delete(before, np.s_[3:12], axis=1)
        np.testing.assert_array_equal(store.mapped(), expected)
    assert "nothing can go" in features("prune", recipe)[1]
    code, text = features("prune", recipe, "--store", str(path), "--yes")
    assert f"removed: {path}" in text
    assert (path.exists(), (stores / "a/toy.h5").exists()) == (False, True)
    other = (tmp_path / "r.toml").read_text().replace('["toy"]', '["mfcc"]')
    (tmp_path / "r.toml").write_text(other)
    with WriterLock(stores / "b/toy.lock"):
        assert f"stays: {stores / 'b/toy.h5'}: under way" in features("prune", recipe)[1]
    features("prune", recipe, "--yes")
    assert not list(stores.rglob("*.h5"))


def test_diff_of_frames(stores: Path, tmp_path: Path, features, rng, kind: str) -> None:
    path = frames_path(stores, "a", "toy", kind)
    code, text = features("diff", str(path), str(path))
    assert (code, text) == (0, f"equal: 4 rows, 2 layers, 46 {kind}, bit for bit\n")
    with FrameStore(path) as store:
        whole = store.mapped().astype(np.float32)
        frames = {
            name: whole[:, a:b].copy()
            for name, a, b in zip(
                store.index["utterance"], store.offsets, store.offsets[1:], strict=False
            )
        }
    frames["a1"][1, 4, 2] += 1
    frames["a2"] = frames["a2"][:, :-1]
    make_frames(tmp_path / "more", "a", frames, n_segments=most(kind))
    other = frames_path(tmp_path / "more", "a", "toy", kind)
    code, text = features("diff", str(path), str(other))
    assert code == 1
    assert f"1 row with other numbers of {kind}: a2" in text
    error = f"largest relative error of a {kind[:-1]} "
    assert f"{kind}, layer 2: 2 of 3 rows are equal, {error}" in text
    assert "layer 1" not in text
    code, text = features("diff", str(path), str(stores / "a/toy.h5"))
    assert (code, f"{kind} and a store; values are not compared" in text) == (1, True)


def test_both_kinds_have_a_line_each_and_are_told_apart(
    stores: Path, tmp_path: Path, features, rng, kind: str
) -> None:
    other = "frames" if kind == "segments" else "segments"
    frames = {f"a{i}": rng.random((2, 3, 5)) for i in range(4)}
    make_frames(stores, "a", frames, n_segments=most(other))
    lines = [line.split()[:3] for line in features("list")[1].splitlines() if "a  " in line[:5]]
    assert lines[1:] == [["a", "toy", "(frames)"], ["a", "toy", "(segments)"]]
    one, two = (str(frames_path(stores, "a", "toy", which)) for which in (kind, other))
    assert features("verify", "--corpus", "a")[1].count(": ok") == 3
    code, text = features("diff", one, two)
    assert (code, f"{kind} and {other}; values are not compared" in text) == (1, True)
    code, text = features("export", two, f"--{kind}", "--to", str(tmp_path / "x.npz"))
    assert (code, f"holds {other}, no {kind}" in text) == (1, True)
    assert not (tmp_path / "x.npz").exists()


def test_export_of_frames(stores: Path, tmp_path: Path, features, kind: str) -> None:
    to = tmp_path / "x.npz"
    code, text = features("export", "a", "toy", f"--{kind}", "--layer", "1", "--to", str(to))
    path = frames_path(stores, "a", "toy", kind)
    assert code == 0
    assert text == f"{to}: 4 utterances, 46 {kind} x 5 columns, layer 1 of {path}\n"
    with np.load(to) as given, FrameStore(frames_path(stores, "a", "toy", kind)) as store:
        np.testing.assert_array_equal(given["X"], store.mapped()[0])
        np.testing.assert_array_equal(given["offsets"], store.offsets)
        assert given["utterance"].tolist() == ["a0", "a1", "a2", "a3"]
    code, text = features("export", "a", "toy", f"--{kind}", "--to", str(tmp_path / "x.csv"))
    assert (code, f"{kind} go out as .npz" in text) == (1, True)
    assert not os.path.exists(tmp_path / "x.csv")
    code, text = features("export", str(frames_path(stores, "a", "toy", kind)), "--to", str(to))
    assert (code, f"holds {kind}" in text) == (1, True)


def test_a_corpus_may_be_called_frames(
    stores: Path, tmp_path: Path, features, rng, kind: str
) -> None:
    make_table(stores, kind, ["f0", "f1"], ["low", "high"])
    make_store(stores, kind, rng.random((3, 2, 5), dtype=np.float32), ["f0", "f1"])
    given = {"f0": rng.random((2, 4, 5)), "f1": rng.random((2, 2, 5))}
    make_frames(stores, kind, given, n_segments=most(kind))
    code, text = features("verify", "--corpus", kind)
    assert (code, text.count(": ok")) == (0, 2)
    assert features("list")[1].count(f"{kind}  toy") == 2
