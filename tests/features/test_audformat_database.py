"""Databases that audformat itself writes, read back."""

import importlib.abc
import math
import pickle
import sys

import pandas as pd
import pytest

from features.common.errors import CorpusError
from features.corpora import read_corpus
from features.recipe.load import load_recipe
from features.utterances import read_table, table_hash, write_table
from tests.features.test_corpora import kinds, row, touch, write

audformat = pytest.importorskip("audformat", reason="needs the package audformat")

FILES = ["wav/a.wav", "wav/b.wav", "wav/c.wav"]


def add(db, table, index, split=None, **columns):
    db[table] = audformat.Table(index, split_id=split)
    for name, (scheme, values) in columns.items():
        db[table][name] = audformat.Column(scheme_id=scheme)
        db[table][name].set(values)


def database(root, storage="csv", languages=("deu",)):
    db = audformat.Database("mini", source="here", usage="research", languages=list(languages))
    db.schemes["emotion"] = audformat.Scheme(labels=["neutral", "anger"])
    db.schemes["speaker"] = audformat.Scheme(
        labels={3: {"gender": "Male"}, 8: {"gender": "female", "language": "tur"}}
    )
    db.schemes["share"] = audformat.Scheme("float")
    db.schemes["count"] = audformat.Scheme("int")
    db.schemes["ok"] = audformat.Scheme("bool")
    db.schemes["duration"] = audformat.Scheme("time")
    db.schemes["text"] = audformat.Scheme("str")
    index = audformat.filewise_index(FILES)
    add(db, "emotion", index, emotion=("emotion", ["anger", "neutral", None]),
        agreed=("share", [0.5, None, 1 / 3]), votes=("count", [3, 4, None]),
        sure=("ok", [True, None, False]))  # fmt: skip
    add(db, "files", index, speaker=("speaker", [3, 8, 8]),
        duration=("duration", pd.to_timedelta([1, 2, 3], "s")),
        transcription=("text", ["one", "two", None]))  # fmt: skip
    db.save(str(root), storage_format=storage)
    touch(root, *FILES[:2])
    return db


def snapshot(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.parametrize("storage", ["csv", "parquet"])
@pytest.mark.parametrize("level", ["", "emodb/1.4.1"])
def test_a_database_of_files(tmp_path, storage, level):
    database(tmp_path / "data" / level, storage)
    before = snapshot(tmp_path)
    options = {"sentence": "transcription"}
    table = read_corpus("mini", tmp_path / "data", reader="audformat", options=options)
    frame = table.rows
    assert snapshot(tmp_path) == before
    assert frame["utterance"].tolist() == ["a", "b", "c"]
    assert frame["path"].tolist()[0] == f"{level}/wav/a.wav".lstrip("/")
    assert table.labels == {"emotion": ("neutral", "anger"), "sure": ("false", "true")}
    assert table.targets == ("agreed", "votes")
    assert frame["emotion"].tolist() == ["anger", "neutral", ""]
    assert frame["sure"].tolist() == ["true", "", "false"]
    assert frame["agreed"].tolist()[::2] == [0.5, 1 / 3]
    assert math.isnan(frame["agreed"].tolist()[1])
    assert frame["votes"].tolist()[:2] == [3.0, 4.0]
    assert frame["speaker"].tolist() == ["3", "8", "8"]
    assert frame["gender"].tolist() == ["male", "female", "female"]
    assert frame["language"].tolist() == ["de", "tr", "tr"]
    assert frame["sentence"].tolist() == ["one", "two", ""]
    assert frame["partition"].tolist() == [""] * 3
    assert frame[["start", "end"]].isna().all(axis=None)
    assert kinds(table)["labels-without-audio"].count == 1
    write_table(tmp_path / "out", table)
    assert table_hash(read_table(tmp_path / "out")) == table_hash(table)


def test_segments_take_their_speaker_from_the_table_of_files(tmp_path):
    db = database(tmp_path, languages=("deu", "tur"))
    index = audformat.segmented_index([FILES[0], FILES[0], FILES[1]], ["0s", "1.5s", "0s"],
                                      ["1.5s", pd.NaT, "2.25s"])  # fmt: skip
    add(db, "turns", index, arousal=("share", [0.1, 0.2, 0.3]), mood=("text", ["x", "y", "x"]))
    db.save(str(tmp_path), storage_format="csv")
    options = {"table": "turns", "labels": ["mood"]}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    frame = table.rows
    assert frame["utterance"].tolist() == ["a#0-1500", "a#1500-", "b#0-2250"]
    assert frame["path"].tolist() == [FILES[0], FILES[0], FILES[1]]
    assert frame["start"].tolist() == [0.0, 1.5, 0.0]
    assert frame["end"].tolist()[::2] == [1.5, 2.25]
    assert frame["speaker"].tolist() == ["3", "3", "8"]
    assert frame["language"].tolist() == ["", "", "tr"]
    assert table.labels == {"mood": ("x", "y")}
    assert table.targets == ("arousal",)
    with pytest.raises(CorpusError, match="some hold files and some segments"):
        read_corpus("mini", tmp_path, reader="audformat", options={"table": ["turns", "emotion"]})


def test_partitions_are_the_split_of_a_table_or_an_option(tmp_path):
    db = database(tmp_path)
    for name, kind in (("train", "train"), ("develop", "dev"), ("held", "test")):
        db.splits[name] = audformat.Split(kind)
    for n, split in enumerate(["train", "develop", "held"]):
        index = audformat.filewise_index(FILES[n : n + 1])
        add(db, f"gold.{split}", index, split, gold=("emotion", ["anger"]))
    db.save(str(tmp_path), storage_format="csv")
    tables = ["gold.train", "gold.develop", "gold.held"]
    table = read_corpus("mini", tmp_path, reader="audformat", options={"table": tables})
    assert table.rows["partition"].tolist() == ["train", "devel", "test"]
    assert table.rows["gold"].tolist() == ["anger"] * 3
    partitions = {"train": ["gold.held", "gold.develop"], "test": "gold.train"}
    options = {"partitions": partitions}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    assert table.rows["partition"].tolist() == ["test", "train", "train"]
    options = {"table": "emotion", "partitions": {"train": "gold.train"}}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    assert table.rows["partition"].tolist() == ["train", "", ""]
    assert table.labels["emotion"] == ("neutral", "anger")
    options = {"partitions": {"train": "gold.train", "test": "emotion"}}
    with pytest.raises(CorpusError, match=r"1 row is in two partitions: wav/a.wav \(train and"):
        read_corpus("mini", tmp_path, reader="audformat", options=options)


def test_labels_of_speakers_may_stand_in_a_table_of_their_own(tmp_path):
    db = database(tmp_path)
    index = pd.Index(["p", "q"], name="person", dtype="string")
    db["person"] = audformat.MiscTable(index)
    db.schemes["sex"] = audformat.Scheme(labels=["female", "male"])
    db["person"]["sex"] = audformat.Column(scheme_id="sex")
    db["person"]["sex"].set(["female", "male"])
    db.schemes["person"] = audformat.Scheme("str", labels="person")
    add(db, "rated", audformat.filewise_index(FILES), who=("person", ["q", "p", "q"]),
        arousal=("share", [0.0, 0.5, 1.0]))  # fmt: skip
    db.save(str(tmp_path), storage_format="csv")
    options = {"table": "rated", "speaker": "who"}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    assert table.rows["speaker"].tolist() == ["q", "p", "q"]
    assert table.rows["gender"].tolist() == ["male", "female", "male"]
    assert table.labels == {}
    options = {"table": "rated", "labels": ["who"], "speaker": "speaker"}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    assert table.labels == {"who": ("p", "q")}
    assert table.rows["speaker"].tolist() == ["3", "8", "8"]


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickled_copy_of_a_table_is_never_opened(tmp_path):
    database(tmp_path / "db")
    trap = tmp_path / "opened"
    for name in ("emotion", "files"):
        (tmp_path / f"db/db.{name}.pkl").write_bytes(pickle.dumps(Touch(str(trap))))
    before = snapshot(tmp_path)
    read_corpus("mini", tmp_path / "db", reader="audformat")
    assert not trap.exists()
    assert snapshot(tmp_path) == before
    (tmp_path / "db/db.files.csv").unlink()
    match = r"1 tables are not there as .csv or .parquet: files; a .pkl is not read"
    with pytest.raises(CorpusError, match=match):
        read_corpus("mini", tmp_path / "db", reader="audformat")
    assert not trap.exists()


def test_a_header_that_asks_to_run_something_is_refused(tmp_path):
    database(tmp_path / "db")
    header = tmp_path / "db/db.yaml"
    trap = tmp_path / "opened"
    text = header.read_text("utf-8")
    write(header, text, f"meta: !!python/object/apply:builtins.open ['{trap}', 'w']")
    with pytest.raises(CorpusError, match=r"db.yaml: no header of a database: ConstructorError"):
        read_corpus("mini", tmp_path / "db", reader="audformat")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"table": "emotoin"},
            "option table: 'emotoin' is none; did you mean 'emotion'.*files \\(",
        ),
        ({"table": 3}, "option table = 3: expected a table, or a list"),
        ({"labels": ["emotio"]}, "0 tables have emotio; say which with the option table"),
        ({"table": "emotion", "labels": ["emotio"]}, "'emotio' is none; did you mean 'emotion'"),
        ({"table": "emotion", "labels": "emotion"}, "expected a list of columns"),
        ({"labels": ["emotion"], "targets": ["emotion"]}, "'emotion' is both"),
        ({"targets": ["emotion"]}, "emotion of wav/a.wav is 'anger', no number"),
        ({"table": "files"}, "files has no column of labels or numbers; there are emotion \\("),
        ({"partitions": {"dev": "emotion"}}, "expected train, devel, test = a table each"),
        ({"speaker": 3}, "option speaker = 3: expected the name of a column"),
    ],
)
def test_options_that_are_wrong(tmp_path, options, match):
    database(tmp_path)
    with pytest.raises(CorpusError, match=match):
        read_corpus("mini", tmp_path, reader="audformat", options=options)


def test_several_tables_with_labels_are_listed(tmp_path):
    db = database(tmp_path)
    add(db, "other", audformat.filewise_index(FILES), mood=("emotion", ["anger"] * 3))
    db.save(str(tmp_path), storage_format="csv")
    with pytest.raises(CorpusError, match=r"2 tables have labels or numbers; .*other \(mood\)"):
        read_corpus("mini", tmp_path, reader="audformat")
    options = {"labels": {"mood": ["anger", "calm"]}}
    table = read_corpus("mini", tmp_path, reader="audformat", options=options)
    assert table.labels == {"mood": ("anger", "calm")}
    assert row(table, "a")["mood"] == "anger"


def test_a_recipe_tells_the_reader_its_target(tmp_path):
    recipe = tmp_path / "mini.toml"
    text = (
        'models = ["mfcc"]\ntarget = "mood"\n[corpora.mini]\nreader = "audformat"\n[split]\n'
        'outer = "leave-one-speaker-out"\n[head]\nkind = "linear-svc"\nselect = "uar"\n'
    )
    recipe.write_text(text, encoding="utf-8")
    assert load_recipe(recipe).reader_options("mini") == {"labels": ["mood"]}


def test_without_a_header_or_with_a_broken_table(tmp_path):
    with pytest.raises(CorpusError, match=r"no db.yaml; audformat is expected to hold db.yaml"):
        read_corpus("mini", tmp_path, reader="audformat")
    database(tmp_path)
    write(tmp_path / "db.emotion.csv", "file,emotion", "wav/a.wav,anger,3", "1,2,3,4,5")
    with pytest.raises(CorpusError, match=r"db.emotion: audformat cannot read it: "):
        read_corpus("mini", tmp_path, reader="audformat")
    write(tmp_path / "db.yaml", "- a", "- b")
    with pytest.raises(CorpusError, match=r"db.yaml: no header of a database: AttributeError"):
        read_corpus("mini", tmp_path, reader="audformat")


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "audformat":
            raise ImportError(name)
        return None


def test_without_the_package_the_error_says_so(tmp_path, monkeypatch):
    database(tmp_path)
    for name in [one for one in sys.modules if one.partition(".")[0] == "audformat"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocked(), *sys.meta_path])
    with pytest.raises(CorpusError, match="needs the package audformat, which is not installed"):
        read_corpus("mini", tmp_path, reader="audformat")


def test_names_and_files_in_the_other_form(tmp_path):
    """Table, column, speaker and file of a database that was written on another system."""
    composed, decomposed = "zo\u00eb", "zoe\u0308"
    db = audformat.Database("mini", source="here", usage="research", languages=["deu"])
    db.schemes["mood"] = audformat.Scheme(labels=["ru\u0308hrig", "still"])
    db.schemes["who"] = audformat.Scheme("str")
    files = [f"wav/{decomposed}.wav", "wav/b.wav"]
    add(db, decomposed, audformat.filewise_index(files), **{
        f"{decomposed}mood": ("mood", ["ru\u0308hrig", "still"]),
        "who": ("who", [decomposed, "b\u00a0b"]),
    })  # fmt: skip
    add(db, "files", audformat.filewise_index([f"wav/{composed}.wav"]), session=("who", [composed]))
    db.save(str(tmp_path), storage_format="csv")
    touch(tmp_path, f"wav/{composed}.wav", "wav/b.wav")
    options = {"table": composed, "labels": [f"{composed}mood"], "speaker": "who"}
    table = read_corpus("mine", tmp_path, reader="audformat", options=options)
    assert table.labels == {f"{composed}mood": ("r\u00fchrig", "still")}
    one = row(table, composed)
    assert one["path"] == f"wav/{composed}.wav"
    assert one[["speaker", "session", f"{composed}mood"]].tolist() == [
        composed, composed, "r\u00fchrig",
    ]  # fmt: skip
    assert row(table, "b")["speaker"] == "b b"
    assert "labels-without-audio" not in kinds(table)


def test_a_table_that_names_one_file_in_both_forms_is_refused(tmp_path):
    db = audformat.Database("mini", source="here", usage="research", languages=["deu"])
    db.schemes["mood"] = audformat.Scheme(labels=["calm"])
    files = audformat.filewise_index(["zo\u00eb.wav", "zoe\u0308.wav"])
    add(db, "mood", files, mood=("mood", ["calm", "calm"]))
    db.save(str(tmp_path), storage_format="csv")
    with pytest.raises(CorpusError, match="table mood names files in both Unicode forms"):
        read_corpus("mine", tmp_path, reader="audformat")
