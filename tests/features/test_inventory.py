"""What lies below STORES: status, list and prune."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from features.common.lock import WriterLock
from features.common.progress import size
from features.recipe.load import load_recipe
from features.stores import keepers
from features.stores.inventory import compare_rows
from features.stores.key import NUMERICS, store_path
from features.stores.read import Store
from features.utterances import read_table, write_table
from tests.features.test_matrix import make_store, make_table, write_recipe

DEAD = 2**22 + 1
"""A process id above Linux' largest."""


@pytest.fixture
def stores(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Corpora a and b with a store of toy, which the recipe names, and one of other; no run."""
    folder = tmp_path / "stores"
    (tmp_path / "runs").mkdir()
    for corpus in "ab":
        ids = [f"{corpus}{i}" for i in range(70)]
        make_table(folder, corpus, ids, ["low"] * 70)
        for model in ("toy", "other"):
            make_store(folder, corpus, rng.random((3, 70, 5), dtype=np.float32), ids, model)
    return folder


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The given recipe; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    return str(write_recipe(tmp_path))


def change_table(stores: Path, corpus: str, drop: list[str], change: list[str]) -> None:
    table = read_table(stores / corpus)
    frame = table.rows[~table.rows["utterance"].isin(drop)].reset_index(drop=True)
    frame.loc[frame["utterance"].isin(change), "audio_hash"] = "f" * 32
    table.rows = frame
    write_table(stores / corpus, table)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- status ------------------------------------------------------------------------------------


def test_status_tells_complete_partial_stale_and_missing(stores: Path, recipe: str, features):
    n_bytes = store_path(stores, "a", "toy").stat().st_size
    code, text = features("status", recipe)
    assert (code, text.splitlines()[-1]) == (0, f"2 stores: 2 complete; {size(2 * n_bytes)}")
    change_table(stores, "a", ["a01", "a1", "a2"], ["a3"])
    store_path(stores, "b", "toy").unlink()
    text = features("status", recipe)[1]
    assert "stale (2 gone, 1 changed)  67 of 68" in text
    assert text.splitlines()[-1] == f"2 stores: 1 missing, 1 stale; {size(n_bytes)}"
    make_store(stores, "a", np.ones((3, 2, 5), np.float32), ["a3", "a4"])
    text = features("status", recipe)[1]
    assert "partial (lacks 66), stale (1 changed)  1 of 68" in text


def test_an_empty_hash_of_the_table_says_nothing(stores: Path) -> None:
    frame = read_table(stores / "a").rows
    frame["audio_hash"] = ""
    with Store(store_path(stores, "a", "toy")) as store:
        assert str(compare_rows(store.index, frame)) == "complete"


def test_status_without_a_table_and_of_what_is_under_way(stores: Path, recipe: str, features):
    (stores / "a" / "utterances.csv").unlink()
    parts = stores / "b" / "toy.parts"
    parts.mkdir()
    store_path(stores, "b", "other").rename(parts / "part-0000-000000.h5")
    lines = {line.split()[0]: line for line in features("status", recipe)[1].splitlines()}
    assert lines["a"].split()[2:5] == ["no", "table", "70"]
    assert "under way" in lines["b"]
    assert "70 of 70 sealed" in lines["b"]


def test_status_says_what_stands_in_the_place_of_a_table(stores: Path, recipe: str, features):
    (stores / "a" / "utterances.csv").unlink()
    os.mkfifo(stores / "a" / "utterances.csv")
    text = features("status", recipe)[1]
    assert f"\n{stores}/a/utterances.csv: is a pipe: remove it or put the file there\n" in text
    for name in ("utterances.csv", "utterances.json"):
        (stores / "a" / name).unlink()
    assert "utterances" not in features("status", recipe)[1].partition("\n")[2]


def test_a_lock_is_under_way_while_its_process_lives(stores: Path, recipe: str, features) -> None:
    lock = stores / "a" / "toy.lock"
    with WriterLock(lock):
        assert "toy    under way" in features("status", recipe)[1]
        assert lock.exists()
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": DEAD, "since": ""}))
    before = snapshot(stores), lock.stat().st_ino
    assert "under way" not in features("status", recipe)[1]
    assert (snapshot(stores), lock.stat().st_ino) == before  # a look takes nothing


def test_status_says_which_stores_another_version_made(stores: Path, recipe: str, features) -> None:
    ids = [f"a{i}" for i in range(70)]
    data = np.ones((3, 70, 5), np.float32)
    make_store(stores, "a", data, ids, key={"numerics": NUMERICS - 1})
    code, text = features("status", recipe)
    assert (code, "complete, of a version with other numbers  70 of 70" in text) == (0, True)
    path = store_path(stores, "a", "toy")
    assert f"\n{path}: made with numerics {NUMERICS - 1}, this version" in text
    assert text.splitlines()[-1].startswith("2 stores: 2 complete; ")
    make_store(stores, "a", data, ids, key={"numerics": 1, "source": "imported:sha256:00"})
    text = features("status", recipe)[1]
    assert ("imported, complete" in text, "numerics" in text) == (True, False)


# -- list --------------------------------------------------------------------------------------


def test_list_shows_all_stores_and_parts_with_their_settings(stores: Path, features) -> None:
    parts = stores / "b" / "new.parts"
    parts.mkdir()
    store_path(stores, "b", "other").rename(parts / "part-0000-000000.h5")
    store_path(stores, "a", "other").write_bytes(b"no HDF5")
    os.utime(store_path(stores, "a", "toy"), (0, time.mktime((2024, 5, 6, 7, 8, 0, 0, 0, -1))))
    code, text = features("list")
    lines = text.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["a", "other"], ["a", "toy"], ["b", "new"], ["b", "toy"],
    ]  # fmt: skip
    assert "(cannot be read: see verify)" in lines[1]
    shown = size(store_path(stores, "a", "toy").stat().st_size)
    assert lines[2].split()[2:] == [
        "x", "float32", "3", "70", *shown.split(), "mean", "2024-05-06", "07:08",
    ]  # fmt: skip
    assert "new (in parts)" in lines[3]
    assert lines[-1].startswith("4 in all, ")


def test_list_without_stores(features, tmp_path: Path) -> None:
    code, text = features("list")
    assert (code, "no such folder" in text) == (1, True)
    (tmp_path / "stores" / "a").mkdir(parents=True)
    code, text = features("list")
    assert (code, "no store there" in text) == (1, True)


# -- prune -------------------------------------------------------------------------------------


def test_prune_says_what_would_go_and_changes_nothing(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    change_table(stores, "a", ["a1"], ["a3"])
    (stores / "a" / "other.failures.csv").write_text("corpus\n")
    (stores / "a" / ".toy.h5.123-0123abcd.tmp").write_bytes(b"x" * 10)
    before = snapshot(stores)
    code, text = features("prune", recipe)
    assert code == 0
    assert snapshot(stores) == before
    sizes = [store_path(stores, corpus, "other").stat().st_size for corpus in "ab"]
    line = f"would remove: {stores}/a/other.h5: {size(sizes[0])}, no recipe names it and no run was"
    assert line in text
    looked = f"recipes in {tmp_path}, runs in runs, 8 folders deep"
    assert f"no run was made from it ({looked}) (source x)\n" in text
    assert f"would remove: {stores}/a/other.failures.csv: 7 B" in text
    assert f"would remove: {stores}/a/.toy.h5.123-0123abcd.tmp: 10 B" in text
    assert f"would rewrite: {stores}/a/toy.h5: 120 B, 1 row that the table has no more" in text
    total = sum(sizes) + 7 + 10 + 2 * 3 * 5 * 4
    assert text.splitlines()[-1] == f"{size(total)} would be freed; --yes does it"


def test_prune_does_it(stores: Path, recipe: str, features) -> None:
    change_table(stores, "a", ["a1"], ["a3"])
    (stores / "a" / "other.failures.csv").write_text("corpus\n")
    (stores / "a" / "toy.failures.csv").write_text("corpus\n")
    (stores / "a" / ".toy.h5.123-0123abcd.tmp").write_bytes(b"x" * 10)
    untouched = store_path(stores, "b", "toy").read_bytes()
    with Store(store_path(stores, "a", "toy")) as store:
        keep = ~store.index["utterance"].isin(["a1", "a3"]).to_numpy()
        key, index = store.key, store.index[keep].reset_index(drop=True)
        layers = [store.read(i, "mean")[keep] for i in range(3)]
    code, text = features("prune", recipe, "--yes")
    assert code == 0, text
    assert sorted(path.name for path in (stores / "a").iterdir()) == [
        "toy.failures.csv", "toy.h5", "utterances.csv", "utterances.json",
    ]  # fmt: skip
    with Store(store_path(stores, "a", "toy")) as store:
        assert store.key == key
        assert store.index.equals(index)
        assert store.verify() == []
        for i in range(3):
            np.testing.assert_array_equal(store.read(i, "mean"), layers[i])
    assert store_path(stores, "b", "toy").read_bytes() == untouched
    assert features("prune", recipe, "--yes") == (0, "nothing can go\n")


def test_what_any_of_the_recipes_names_stays(stores: Path, tmp_path: Path, features) -> None:
    first = write_recipe(tmp_path)
    second = tmp_path / "second.toml"
    second.write_text(
        first.read_text().replace('models = ["toy"]', "").replace(
            '[corpora.a]\nreader = "manifest"\n', '[models.other]\nhub = "org/repo"\n'
        )
    )  # fmt: skip
    assert set(load_recipe(second).corpora) == {"b"}
    text = features("prune", str(first), str(second), "--runs", str(tmp_path / "runs"))[1]
    assert "a/other.h5" in text
    assert "b/other.h5" not in text
    assert "toy" not in text
    with pytest.raises(SystemExit):
        features("prune")


def test_what_is_under_way_is_never_pruned(stores: Path, recipe: str, features) -> None:
    (stores / "a" / "other.parts").mkdir()
    (stores / "a" / ".other.h5.1-0123abcd.tmp").write_bytes(b"")
    change_table(stores, "b", ["b1"], [])
    with WriterLock(stores / "b" / "other.lock"), WriterLock(stores / "b" / "toy.lock"):
        (stores / "b" / ".toy.h5.1-0123abcd.tmp").write_bytes(b"")
        before = snapshot(stores)
        code, text = features("prune", recipe, "--yes")
        assert (code, text.splitlines()[-1]) == (0, "nothing can go")
        assert snapshot(stores) == before
    for path in ("a/other.h5", "b/other.h5", "b/toy.h5"):
        assert f"stays: {stores}/{path}: under way" in text


def test_temporary_files_that_no_lock_guards_go_after_an_hour(
    stores: Path, recipe: str, features
) -> None:
    old, young = (stores / "a" / f".utterances.csv.1-0123abc{i}.tmp" for i in range(2))
    ours = stores / "a" / ".notes.tmp"
    for path in (old, young, ours):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 3700,) * 2)
    features("prune", recipe, "--yes")
    assert [path.exists() for path in (old, young, ours)] == [False, True, True]


def test_a_store_whose_rows_are_all_stale_goes_whole(stores: Path, recipe: str, features) -> None:
    change_table(stores, "a", [], [f"a{i}" for i in range(70)])
    text = features("prune", recipe, "--yes")[1]
    assert "toy.h5: " in text
    assert "0 rows that the table has no more, 70 of other audio: all of its rows" in text
    assert not store_path(stores, "a", "toy").exists()


def test_what_cannot_be_read_stays_and_is_named(stores: Path, recipe: str, features) -> None:
    other, toy = (store_path(stores, "a", model) for model in ("other", "toy"))
    other.write_bytes(b"somebody else's")
    toy.write_bytes(toy.read_bytes()[:2000])
    (stores / "b" / "utterances.csv").unlink()
    code, text = features("prune", recipe, "--yes")
    assert code == 0
    assert f"stays: {other}: cannot be opened as HDF5" in text
    assert f"stays: {toy}: " in text
    assert "stays: " + str(stores / "b" / "utterances.csv") in text
    assert other.exists()
    assert store_path(stores, "b", "toy").exists()


def test_a_damaged_block_keeps_the_store_as_it_is(stores: Path, recipe: str, features) -> None:
    import h5py

    path = store_path(stores, "a", "toy")
    with h5py.File(path, "r") as file:
        offset = file["mean"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    change_table(stores, "a", ["a5"], [])
    code, text = features("prune", recipe, "--yes")
    assert code == 1
    assert "damaged: /mean, layer 0" in text
    assert path.read_bytes() == raw


# -- prune: who keeps what no given recipe names -------------------------------------------------


def beside(folder: Path, name: str, text: str) -> Path:
    """A recipe (or whatever) beside the given one, over another of the fixture's models."""
    path = folder / name
    path.write_text(text or write_recipe(folder).read_text().replace('["toy"]', '["other"]'))
    return path


def run_of(runs: Path, folder: str, record: dict[str, object]) -> None:
    """A run's folder with its record."""
    (runs / folder).mkdir(parents=True)
    (runs / folder / "run.json").write_text(json.dumps(record))


def test_what_a_recipe_beside_the_given_one_names_stays(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    second = beside(tmp_path, "second.toml", "")
    write_recipe(tmp_path)
    before = snapshot(stores)
    code, text = features("prune", recipe, "--yes")
    assert (code, text.splitlines()[-1]) == (0, "nothing can go")
    assert snapshot(stores) == before
    for corpus in "ab":
        path = store_path(stores, corpus, "other")
        assert f"stays: {path}: {second} names it; --store {path} takes it all the same\n" in text


def test_what_a_recipe_of_the_working_directory_names_stays(
    stores: Path,
    recipe: str,
    tmp_path: Path,
    features,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "recipes").mkdir()
    beside(tmp_path, "second.toml", "").rename(elsewhere / "recipes" / "mine.toml")
    write_recipe(tmp_path)
    assert "would remove" in features("prune", recipe)[1]
    monkeypatch.chdir(elsewhere)
    text = features("prune", recipe, "--runs", str(tmp_path / "runs"))[1]
    assert "recipes/mine.toml names it" in text
    assert "would remove" not in text


@pytest.mark.parametrize(
    ("folder", "record"),
    [
        ("study/other", {"stage": "train", "model": "other"}),
        ("study/protocols/held-out/other+toy@3", {"stage": "train", "model": "other+toy"}),
    ],
)
def test_what_a_finished_run_was_made_from_stays(
    stores: Path, recipe: str, tmp_path: Path, features, folder: str, record: dict[str, object]
) -> None:
    runs = tmp_path / "of mine"
    run_of(runs, folder, {**record, "inputs": {"corpora": {"a": {}}}})
    (stores / "a" / "other.failures.csv").write_text("corpus\n")
    text = features("prune", recipe, "--yes", "--runs", str(runs))[1]
    assert f"other.h5: the run {runs / folder} was made from it" in text
    assert store_path(stores, "a", "other").exists()
    assert (stores / "a" / "other.failures.csv").exists()
    assert not store_path(stores, "b", "other").exists()


def test_features_of_new_audio_stay_while_their_predictions_do(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    (stores / "b").rename(stores / "predict-0123456789")
    runs = tmp_path / "runs"
    for name in ("toy@2@svm", "fusion"):
        run_of(runs, f"study/predict/predict-0123456789/{name}", {"stage": "predict", "inputs": {}})
    features("prune", recipe, "--yes", "--runs", str(runs))
    assert store_path(stores, "predict-0123456789", "toy").exists()
    assert not store_path(stores, "predict-0123456789", "other").exists()


@pytest.mark.parametrize("text", ['models = ["other"', 'models = ["other"]\nsplit = 3\n', "\xff"])
def test_a_recipe_that_cannot_be_read_might_name_any_store(
    stores: Path, recipe: str, tmp_path: Path, features, text: str
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_bytes(text.encode("latin-1"))
    left = stores / "a" / ".toy.h5.123-0123abcd.tmp"
    left.write_bytes(b"x")
    code, said = features("prune", recipe, "--yes")
    assert code == 0
    assert f"stays: every store that no given recipe names, but for those named with --store: "\
           f"{broken}: " in said  # fmt: skip
    assert all(store_path(stores, corpus, "other").exists() for corpus in "ab")
    assert not left.exists()  # no recipe names what a killed write has left
    path = store_path(stores, "a", "other")
    features("prune", recipe, "--yes", "--store", str(path))
    assert [store_path(stores, corpus, "other").exists() for corpus in "ab"] == [False, True]


def test_a_run_that_cannot_be_read_might_be_made_from_any_store(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    run_of(tmp_path / "runs", "study/x", {"model": "other"})
    text = features("prune", recipe, "--yes", "--runs", str(tmp_path / "runs"))[1]
    assert "runs/study/x/run.json: no run's record" in text
    assert all(store_path(stores, corpus, "other").exists() for corpus in "ab")


def test_toml_files_that_are_no_recipes_keep_nothing(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    beside(tmp_path, "pyproject.toml", '[project]\nname = "study"\n')
    assert "stays" not in features("prune", recipe)[1]


def test_a_store_that_is_named_goes_whoever_keeps_it(
    stores: Path, recipe: str, tmp_path: Path, features, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = beside(tmp_path, "second.toml", "")
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    (stores / "a" / "other.failures.csv").write_text("corpus\n")
    two = ("--store", "stores/a/other.h5", "--store", "stores/b/toy.h5")
    text = features("prune", recipe, *two)[1]
    assert f"{stores}/a/other.h5: " in text
    assert f"asked for, {second} names it" in text
    assert f"would remove: {stores}/a/other.failures.csv: " in text
    assert "b/toy.h5: " in text
    assert "asked for, a given recipe names it" in text
    features("prune", recipe, "--yes", "--store", "stores/a/other.h5")
    assert sorted(str(one.relative_to(stores)) for one in stores.glob("*/*.*")
                  if one.suffix == ".h5" or "failures" in one.name) == [
        "a/toy.h5", "b/other.h5", "b/toy.h5",
    ]  # fmt: skip
    code, text = features("prune", recipe, "--yes", "--store", "stores/a/othre.h5")
    assert (code, "no such store" in text) == (1, True)
    (tmp_path / "toy.h5").write_bytes(b"")
    code, text = features("prune", recipe, "--yes", "--store", "toy.h5")
    assert (code, "no store of a corpus below" in text) == (1, True)


# -- prune: what is looked through ---------------------------------------------------------------

TRAINED = {"stage": "train", "model": "other", "inputs": {"corpora": {"a": {}, "b": {}}}}
UNSURE = "stays: every store that no given recipe names, but for those named with --store: "


def both_kept(stores: Path, text: str) -> bool:
    return "would remove" not in text and "removed" not in text and all(
        store_path(stores, corpus, "other").exists() for corpus in "ab"
    )  # fmt: skip


@pytest.mark.parametrize("deep", ["study", "study/other", "study/protocols/held-out/fusion/x"])
def test_runs_behind_links_keep_their_stores(
    stores: Path, recipe: str, tmp_path: Path, features, deep: str
) -> None:
    big = tmp_path / "big"
    run_of(big, "x", TRAINED)
    link = tmp_path / "runs" / deep
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(big)
    (big / "loop").symlink_to(tmp_path / "runs")
    (big / "again").symlink_to(".")
    text = features("prune", recipe, "--yes")[1]
    assert f"other.h5: the run runs/{deep}/x was made from it; " in text
    assert "more name it" not in text  # each real folder once
    assert both_kept(stores, text)


def test_a_folder_of_runs_that_is_a_link_is_looked_through(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    run_of(tmp_path / "big", "study/x", TRAINED)
    (tmp_path / "runs").rmdir()
    (tmp_path / "runs").symlink_to("big")
    text = features("prune", recipe, "--yes")[1]
    assert "the run runs/study/x was made from it" in text
    assert both_kept(stores, text)


def test_without_a_folder_of_runs_no_store_is_offered(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    text = features("prune", recipe, "--yes", "--runs", "rnus")[1]
    told = "rnus: not there: no finished run was looked for; name the folder with --runs\n"
    assert f"{UNSURE}{told}" in text
    assert both_kept(stores, text)
    (tmp_path / "rnus").touch()
    text = features("prune", recipe, "--yes", "--runs", "rnus")[1]
    assert f"{UNSURE}rnus: is no folder: no finished run was looked for; " in text
    assert both_kept(stores, text)
    (tmp_path / "rnus").unlink()
    path = store_path(stores, "a", "other")
    assert f"removed: {path}" in features(
        "prune", recipe, "--yes", "--runs", "rnus", "--store", str(path)
    )[1]  # fmt: skip


@pytest.mark.parametrize("linked", [False, True])
def test_what_lies_beside_the_stores_is_looked_through_from_anywhere(
    recipe: str,
    stores: Path,
    tmp_path: Path,
    features,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    linked: bool,
) -> None:
    away = tmp_path_factory.mktemp("away")
    (away / "runs").mkdir()
    given = write_recipe(away)
    if linked:
        (away / "stores").symlink_to(stores)
    monkeypatch.chdir(away)
    where = str(away / "stores") if linked else "stores"
    run_of(tmp_path / "runs", "study/x", {**TRAINED, "inputs": {"corpora": {"a": {}}}})
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    beside(tmp_path, "b.toml", "").rename(tmp_path / "recipes" / "mine" / "b.toml")
    text = features("prune", str(given), "--yes", stores=where)[1]
    assert f"a/other.h5: {tmp_path}/recipes/mine/b.toml names it (and 1 more name it)" in text
    (tmp_path / "recipes" / "mine" / "b.toml").unlink()
    text = features("prune", str(given), stores=where)[1]
    assert f"a/other.h5: the run {tmp_path}/runs/study/x was made from it" in text
    assert "b/other.h5: " in text
    assert f"(recipes in ., {tmp_path}/recipes, runs in runs, {tmp_path}/runs, 8 " in text.replace(
        f"recipes in {away}", "recipes in ."
    )


@pytest.mark.parametrize(
    "name", ["recipes/mine/emodb.toml", "mine/deep/emodb.toml", "emodb.TOML", "recipes/a.Toml"]
)
def test_recipes_in_subfolders_and_of_any_case_count(
    stores: Path, recipe: str, tmp_path: Path, features, name: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    beside(tmp_path, "second", "").rename(tmp_path / name)
    write_recipe(tmp_path)
    text = features("prune", recipe, "--yes")[1]
    assert f"{name} names it; " in text
    assert both_kept(stores, text)


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [os.mkfifo, a_link_to_nothing, a_folder])
@pytest.mark.parametrize(
    "name", ["mine.toml", "recipes/mine.TOML", "runs/study/other/run.json", "runs/run.json"]
)
def test_what_is_no_file_might_name_any_store(
    stores: Path, recipe: str, tmp_path: Path, features, name: str, make
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / name)
    text = features("prune", recipe, "--yes")[1]
    (line,) = (one for one in text.splitlines() if one.startswith(UNSURE))
    assert name in line
    assert both_kept(stores, text)


@pytest.mark.parametrize("name", ["runs/study", "recipes/mine", "recipes"])
def test_a_link_to_a_folder_that_is_not_there_might_hold_any_run_or_recipe(
    stores: Path, recipe: str, tmp_path: Path, features, name: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).symlink_to("/nowhere/at all")
    text = features("prune", recipe, "--yes")[1]
    assert f"{name}: leads to nothing that is there; mount it, or remove the link\n" in text
    assert both_kept(stores, text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root lists every folder")
@pytest.mark.parametrize("name", ["runs/study", "recipes/mine"])
def test_folders_that_cannot_be_listed_might_hold_any(
    stores: Path, recipe: str, tmp_path: Path, features, name: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name).chmod(0)
    text = features("prune", recipe, "--yes")[1]
    (tmp_path / name).chmod(0o700)
    assert f"{name}: cannot be listed: Permission denied" in text
    assert both_kept(stores, text)


@pytest.mark.parametrize("name", ["runs", "mine"])
def test_a_tree_without_end_is_looked_through_up_to_a_bound(
    stores: Path, recipe: str, tmp_path: Path, features, monkeypatch, name: str
) -> None:
    monkeypatch.setattr(keepers, "MOST_FOLDERS", 20)
    for i in range(15):
        (tmp_path / name / str(i)).mkdir(parents=True)
    assert "would remove" in features("prune", recipe)[1]
    for i in range(15, 30):
        (tmp_path / name / str(i)).mkdir()
    text = features("prune", recipe, "--yes")[1]
    assert "more than 20 folders (now at " in text
    assert both_kept(stores, text)


def test_a_folder_that_lies_deeper_than_any_run_might_hold_one(
    stores: Path, recipe: str, tmp_path: Path, features
) -> None:
    deep = tmp_path.joinpath("runs", *"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "loop").symlink_to(tmp_path / "runs")
    assert "would remove" in features("prune", recipe)[1]
    run_of(deep, "i", TRAINED)
    text = features("prune", recipe, "--yes")[1]
    assert "runs/a/b/c/d/e/f/g/h/i: deeper than any run lies, not looked through\n" in text
    assert both_kept(stores, text)
