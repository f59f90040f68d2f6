"""Stores and tables to X, y, groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.common.errors import CorpusError, RunError, StoreError
from features.matrix import load, load_matrix, standardised
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.stores.key import NUMERICS, full_key, store_path
from features.stores.read import Store
from features.stores.write import write_store
from features.utterances import Table, columns_of, read_table, write_table
from tests.models import synthetic


def make_store(
    stores: Path,
    corpus: str,
    data: np.ndarray,
    ids: list[str],
    model: str = "toy",
    key: Mapping[str, object] | None = None,
    **more,
) -> None:
    index = pd.DataFrame(
        {"utterance": ids, "audio_hash": [f"{hash_of(i):032x}" for i in ids], "size": 1,
         "mtime_ns": 1}
    )  # fmt: skip
    whole = full_key(
        {"model": model, "source": "x", "layers": list(range(len(data))), "n_layers": len(data) - 1,
         "statistics": ["mean"], "precision": "float32"}
    )  # fmt: skip
    write_store(
        store_path(stores, corpus, model), {**whole, **(key or {})}, index, range(len(data)),
        lambda _, i, start, stop: data[i, start:stop],
        default=["mean"], columns={"mean": data.shape[2]}, **more,
    )  # fmt: skip


def hash_of(utterance: str) -> int:
    return sum(utterance.encode())


def make_table(stores: Path, corpus: str, ids: list[str], labels: list[str]) -> None:
    classes = {"emotion": ("low", "high", "odd")}
    frame = pd.DataFrame("", index=range(len(ids)), columns=columns_of(classes, ("arousal",)))
    frame = frame.astype(object)
    frame["corpus"], frame["utterance"], frame["emotion"] = corpus, ids, labels
    frame["speaker"] = [f"0{i % 2}" for i in range(len(ids))]
    frame["audio_hash"] = [f"{hash_of(i):032x}" for i in ids]
    for column in ("start", "end", "seconds", "arousal"):
        frame[column] = np.nan
    frame["arousal"] = np.arange(len(ids)) / 10
    frame.loc[0, "arousal"] = np.nan
    write_table(stores / corpus, Table(frame, classes, ("arousal",)))


def write_recipe(folder: Path, head: str = 'target = "emotion"') -> Path:
    kind = ("linear-svc", "uar") if "target =" in head else ("ridge", "nmse")
    path = folder / "r.toml"
    path.write_text(
        f'models = ["toy"]\n{head}\n[corpora.b]\nreader = "manifest"\n'
        f'[corpora.a]\nreader = "manifest"\n[split]\nouter = "leave-one-speaker-out"\n'
        f'[head]\nkind = "{kind[0]}"\nselect = "{kind[1]}"\n'
    )
    return path


@pytest.fixture
def stores(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "stores"
    for corpus in "ab":
        ids = [f"{corpus}{i}" for i in range(4)]
        make_table(folder, corpus, ids, ["low", "high", "", "odd"])
        data = rng.standard_normal((3, 4, 5)).astype(np.float32)
        # The store's order is its own: rows are found by id.
        order = [2, 0, 3, 1]
        make_store(folder, corpus, data[:, order], [ids[i] for i in order])
        np.save(tmp_path / f"{corpus}.npy", data)
    return folder


def test_rows_of_all_corpora_sorted_by_key_and_found_by_id(stores: Path, tmp_path: Path) -> None:
    matrix = load_matrix(load_recipe(write_recipe(tmp_path)), stores, "toy", 1)
    data = np.concatenate([np.load(tmp_path / "a.npy")[1], np.load(tmp_path / "b.npy")[1]])
    np.testing.assert_array_equal(matrix.X, data)
    assert matrix.rows["utterance"].tolist() == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    assert matrix.y.tolist() == ["low", "high", "", "odd"] * 2
    assert matrix.groups.tolist() == ["a/00", "a/01"] * 2 + ["b/00", "b/01"] * 2
    assert matrix.labels == ("low", "high", "odd")


def test_notebook_form_leaves_out_what_has_no_truth(stores: Path, tmp_path: Path) -> None:
    X, y, groups = load(write_recipe(tmp_path), model="toy", stores=stores)
    assert (X.shape, y.tolist()) == ((6, 5), ["low", "high", "odd"] * 2)
    assert len(groups) == 6
    X, y, _ = load(write_recipe(tmp_path, 'targets = ["arousal"]'), model="toy", stores=stores)
    assert (X.shape, y[:, 0].tolist()) == ((6, 5), [0.1, 0.2, 0.3] * 2)


def test_layers(stores: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    data = np.concatenate([np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")], axis=1)
    np.testing.assert_array_equal(load_matrix(recipe, stores, "toy", "last").X, data[2])
    np.testing.assert_allclose(
        load_matrix(recipe, stores, "toy", "mean").X, data[1:].mean(axis=0), rtol=1e-5
    )
    with pytest.raises(StoreError, match="needs layer 7, stored are 0-2"):
        load_matrix(recipe, stores, "toy", 7)


def test_labels_outside_the_recipe_s_list_are_dropped_and_counted(
    stores: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(write_recipe(tmp_path, 'target = "emotion"\nlabels = ["low", "high"]'))
    matrix = load_matrix(recipe, stores, "toy")
    assert matrix.y.tolist() == ["low", "high", ""] * 2
    assert sum("1 row dropped" in note and "odd 1" in note for note in matrix.notes) == 2


def test_a_store_that_lacks_rows_is_an_error_unless_allowed(stores: Path, tmp_path: Path) -> None:
    data = np.load(tmp_path / "a.npy")
    make_store(stores, "a", data[:, :3], ["a0", "a1", "a2"])
    recipe = load_recipe(write_recipe(tmp_path))
    with pytest.raises(StoreError, match=r"lacks 1 of the table's 4 utterances \(a3\).*LURES=1"):
        load_matrix(recipe, stores, "toy")
    matrix = load_matrix(recipe, stores, "toy", allow_failures=1)
    assert "a3" not in matrix.rows["utterance"].tolist()
    np.testing.assert_array_equal(matrix.X[:3], data[2, :3])


def test_a_store_of_other_numerics_is_said(stores: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    assert not [n for n in load_matrix(recipe, stores, "toy").notes if "numerics" in n]
    ids, data = [f"a{i}" for i in range(4)], np.load(tmp_path / "a.npy")
    make_store(stores, "a", data, ids, key={"numerics": NUMERICS - 1})
    path = store_path(stores, "a", "toy")
    assert [n for n in load_matrix(recipe, stores, "toy").notes if "numerics" in n] == [
        f"{path}: made with numerics {NUMERICS - 1}, this version computes {NUMERICS}: scores can "
        "move; make extract MODEL=toy FORCE=1 makes it anew"
    ]
    imported = {"numerics": NUMERICS - 1, "source": "imported:sha256:00"}
    make_store(stores, "a", data, ids, key=imported)
    assert not [n for n in load_matrix(recipe, stores, "toy").notes if "numerics" in n]


def test_stale_unfinished_missing_and_not_finite(stores: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    table = stores / "a" / "utterances.csv"
    text = table.read_text()
    table.write_text(text.replace(f"{hash_of('a1'):032x}", "f" * 32))
    with pytest.raises(StoreError, match=r"audio of 1 utterance has changed since \(a1\)"):
        load_matrix(recipe, stores, "toy")
    table.write_text(text)
    parts = stores / "b" / "toy.parts"
    parts.mkdir()
    (parts / "plan.json").write_text("{}")
    with pytest.raises(StoreError, match="extraction of toy for b is not finished"):
        load_matrix(recipe, stores, "toy")
    (parts / "plan.json").unlink()
    parts.rmdir()
    with pytest.raises(StoreError, match="no such store"):
        load_matrix(recipe, stores, "other")
    data = np.load(tmp_path / "a.npy")
    data[2, 1, 0] = np.nan
    make_store(stores, "a", data, ["a0", "a1", "a2", "a3"])
    with pytest.raises(StoreError, match="layer 2, utterances a1: values that are not finite"):
        load_matrix(recipe, stores, "toy")


def test_a_target_that_the_table_lacks(stores: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"its table has no 'joy'; it has arousal"):
        load_matrix(load_recipe(write_recipe(tmp_path, 'targets = ["joy"]')), stores, "toy")


def test_a_damaged_block_is_not_trained_on(stores: Path, tmp_path: Path) -> None:
    import h5py

    path = store_path(stores, "a", "toy")
    with h5py.File(path, "r+") as file:
        file["mean"][2, 0, 0] += 1
    with pytest.raises(StoreError, match="damaged: /mean, layer 2, utterances"):
        load_matrix(load_recipe(write_recipe(tmp_path)), stores, "toy")


def test_numbers_where_labels_are_asked_for(stores: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"arousal was read as numbers, .* --recipe"):
        load_matrix(load_recipe(write_recipe(tmp_path, 'target = "arousal"')), stores, "toy")


def test_differing_class_lists_are_said(stores: Path, tmp_path: Path) -> None:
    classes = {"emotion": ("low", "high", "odd", "strange")}
    table = read_table(stores / "a")
    write_table(stores / "a", Table(table.rows, classes, ("arousal",)))
    matrix = load_matrix(load_recipe(write_recipe(tmp_path)), stores, "toy")
    assert any("name their classes differently" in note for note in matrix.notes)
    recipe = load_recipe(write_recipe(tmp_path, 'target = "emotion"\nlabels = ["low", "high"]'))
    assert not any("differently" in note for note in load_matrix(recipe, stores, "toy").notes)


def test_pooled_stores_whose_columns_have_other_names_are_refused(
    stores: Path, tmp_path: Path
) -> None:
    for corpus, names in (("a", "vwxyz"), ("b", "vwyxz")):
        data, ids = np.load(tmp_path / f"{corpus}.npy"), [f"{corpus}{i}" for i in range(4)]
        make_store(stores, corpus, data, ids, names={"mean": list(names)})
    recipe = load_recipe(write_recipe(tmp_path))
    with pytest.raises(StoreError, match=r"toy: the columns of the stores of b and a have other"):
        load_matrix(recipe, stores, "toy")
    make_store(stores, "b", np.load(tmp_path / "b.npy"), ids, names={"mean": list("vwxyz")})
    assert load_matrix(recipe, stores, "toy").X.shape == (8, 5)


@pytest.mark.parametrize("by", ["speaker", "corpus"])
def test_standardised_rows_by_hand(rng: np.random.Generator, by: str) -> None:
    frame = pd.concat(
        [
            synthetic.rows(6, "a", speaker=["1", "2", "1", "2", "1", "3"]),
            synthetic.rows(4, "b", speaker=["1", "1", "2", "2"]),
        ],
        ignore_index=True,
    )
    X = rng.normal(3, 5, (10, 4)).astype(np.float32)
    X[:, 3] = 0.1  # constant: 0, and no noise of rounding
    found, note = standardised(X, frame, by)
    keys = frame["corpus"] + "/" + frame["speaker"] if by == "speaker" else frame["corpus"]
    assert f"the columns of {keys.nunique()} " in note
    assert ("1 of a single row became 0" in note) == (by == "speaker")
    for key in keys.unique():
        part = X[keys == key].astype(float)
        deviation = part.std(axis=0)
        deviation[3] = 1
        if len(part) == 1:
            deviation[:] = 1
        expected = (part - part.mean(axis=0)) / deviation
        np.testing.assert_allclose(found[keys == key], expected, rtol=1e-5, atol=1e-6)
    assert (found[:, 3] == 0).all()
    assert found.dtype == np.float32


def test_rows_without_a_speaker_cannot_be_standardised_by_speaker() -> None:
    frame = synthetic.rows(3, speaker=["1", "", "1"])
    with pytest.raises(RunError, match="the speaker of 1 of 3 rows is unknown .first made/u001"):
        standardised(np.zeros((3, 2), np.float32), frame, "speaker")


def test_models_side_by_side(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = joined(tmp_path)
    assert recipe.single_models == ["one", "two"]
    both = load_matrix(recipe, tmp_path, "one+two")
    one, two = (load_matrix(recipe, tmp_path, name) for name in ("one", "two"))
    assert (np.hstack([one.X, two.X]) == both.X).all()
    assert both.rows.equals(one.rows)
    assert (both.y == one.y).all()
    assert both.title == "one + two"
    stores = both.identity["made"]["store"]
    assert stores == {m.title: m.identity["made"]["store"] for m in (one, two)}


def test_models_side_by_side_have_the_rows_of_all(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    X = np.ones((len(frame), 2))
    labels = {"emotion": synthetic.LABELS}
    synthetic.write(tmp_path, frame.iloc[5:], {"two": X[5:]}, labels=labels)
    columns = read_table(tmp_path / "made").columns
    write_table(tmp_path / "made", Table(frame[columns], labels, (), [], {"key": "made"}))
    recipe = joined(tmp_path)
    with pytest.raises(StoreError, match="lacks 5 of the table's 160 utterances"):
        load_matrix(recipe, tmp_path, "one+two")
    both = load_matrix(recipe, tmp_path, "one+two", allow_failures=5)
    assert both.rows["utterance"].tolist() == frame["utterance"].tolist()[5:]
    assert both.n_lacking == 5
    assert (both.X[:, :-2] == load_matrix(recipe, tmp_path, "one").X[5:]).all()


def test_weights_of_models_side_by_side(tmp_path: Path) -> None:
    """Of the columns behind the scaler: the matrix is what it is without them."""
    frame, rng = synthetic.rows(6, emotion=["calm", "sad"] * 3), np.random.default_rng(0)
    stacks = {"one": rng.normal(size=(3, 6, 4)), "two": rng.normal(size=(3, 6, 1))}
    synthetic.write(tmp_path, frame, stacks, labels={"emotion": ("calm", "sad")})
    plain = load_matrix(joined(tmp_path), tmp_path, "one+two")
    assert plain.weights is None
    given = load_matrix(joined(tmp_path, "[3, 0.5]"), tmp_path, "one+two")
    assert given.weights.tolist() == [3, 3, 3, 3, 0.5]
    assert given.title == "one + two, weighted 3 : 0.5"
    text = "behind the scaler columns are multiplied: 4 of one by 3, 1 of two by 0.5"
    assert given.notes == [*plain.notes, text]
    size = load_matrix(joined(tmp_path, '"size"'), tmp_path, "one+two")
    assert size.weights == pytest.approx([(5 / 8) ** 0.5] * 4 + [(5 / 2) ** 0.5])
    assert (size.weights**2).sum() == pytest.approx(5)
    assert size.title == "one + two, weighted by size"
    for one in (given, size):
        assert (one.X == plain.X).all()
        assert one.identity == plain.identity
    two_layers = load_matrix(joined(tmp_path, "[3, 0.5]"), tmp_path, "one+two", "0+2")
    assert two_layers.weights.tolist() == [3] * 8 + [0.5] * 2
    assert load_matrix(joined(tmp_path, '"size"'), tmp_path, "one").weights is None


def joined(folder: Path, weights: str = "") -> Recipe:
    path = folder / "joined.toml"
    model = f'{{name = "one+two", weights = {weights}}}' if weights else '"one+two"'
    path.write_text(
        f'models = [{model}]\ntarget = "emotion"\n[corpora.made]\nreader = "manifest"\n'
        '[split]\nouter = "leave-one-speaker-out"\n[head]\nkind = "linear-svc"\nselect = "uar"\n',
        encoding="utf-8",
    )
    return load_recipe(path)


def test_a_load_opens_each_store_and_reads_each_table_once(
    stores: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for corpus in "ab":
        data = rng.standard_normal((3, 4, 2)).astype(np.float32)
        make_store(stores, corpus, data, [f"{corpus}{i}" for i in range(4)], "second")
    opened, read = [], []

    class Counted(Store):
        def __init__(self, path: Path) -> None:
            opened.append(f"{path.parent.name}/{path.stem}")
            super().__init__(path)

    def counted(folder: Path) -> Table:
        read.append(folder.name)
        return read_table(folder)

    monkeypatch.setattr("features.matrix.Store", Counted)
    monkeypatch.setattr("features.matrix.read_table", counted)
    matrix = load_matrix(load_recipe(write_recipe(tmp_path)), stores, "second+toy")
    assert matrix.X.shape == (8, 7)
    assert sorted(opened) == ["a/second", "a/toy", "b/second", "b/toy"]
    assert sorted(read) == ["a", "b"]
