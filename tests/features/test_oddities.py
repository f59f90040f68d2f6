"""What is odd in made tables, and that readers, recipes and commands bring names into one form."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from features.common.errors import CorpusError, RecipeError
from features.corpora import read_corpus
from features.corpora.oddities import columns_near, oddities
from features.exchange.feature_files import Matcher
from features.recipe.load import load_recipe
from features.splits.emobox import read_emobox
from features.splits.lint import lint_recipe
from features.utterances import read_table, table_hash, write_table
from tests.features.test_corpora import kinds, row, touch, write
from tests.features.test_recipe import write as write_recipe
from tests.models import synthetic

C, D = "Zo\u00eb", "Zoe\u0308"


def frame(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return synthetic.rows(n, **columns)


def found(table: pd.DataFrame, *labels: str, reader: str = "manifest") -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for one in oddities(table, labels, reader):
        result.setdefault(one.kind, []).append(one.text)
    return result


def test_names_that_differ_in_case_or_blanks_alone() -> None:
    table = frame(
        speaker=["s 1", "s1", "S1", "s2"], session=["1", "1", "2", "02"],
        partition=["Train", "train", "train", "test"], mood=["Anger", "anger", "anger", "calm"],
    )  # fmt: skip
    (text,) = found(table, "mood")["names-alike"]
    assert text == (
        "3 groups of names differ in case, blanks or what cannot be seen alone: "
        "speaker S1 (1 row) beside s 1 (1 row) beside s1 (1 row), partition Train (1 row) "
        "beside train (2 rows), mood Anger (1 row) beside anger (2 rows)"
    )
    assert "names-alike" not in found(table[table["utterance"] > "u001"].assign(mood="x"), "mood")


def test_classes_of_one_row_or_one_speaker_and_rows_without() -> None:
    mood = ["calm", "calm", "keen", "keen", "sad", "", ""]
    table = frame(speaker=["a", "b", "b", "b", "a", "a", "b"], mood=mood)
    assert found(table, "mood") == {
        "class-rare": [
            "1 class of mood has one row: sad",
            "1 class of mood has one speaker: keen (b, 2 rows)",
        ],
        "rows-unlabelled": ["2 rows have no mood: u005, u006"],
    }
    # Where there is one speaker, or none is known, it says nothing that a class has one.
    for speaker in ("a", ""):
        texts = found(table.assign(speaker=speaker), "mood")["class-rare"]
        assert texts == ["1 class of mood has one row: sad"]
    # A corpus with a record says itself which of its rows have no label.
    assert "rows-unlabelled" not in found(table, "mood", reader="iemocap")
    assert found(table) == {}


def test_speakers_of_two_genders() -> None:
    gender = ["female", "female", "male", "Male", "", "male"]
    table = frame(speaker=["a", "a", "a", "b", "b", "b"], gender=gender,
                  language=["de", "tr", "de", "de", "tr", "en"])  # fmt: skip
    texts = found(table)
    assert texts["speaker-genders"] == ["1 speaker has several genders: a (female 2, male 1)"]
    assert texts["names-alike"][0].endswith("gender Male (1 row) beside male (2 rows)")
    assert set(texts) == {"speaker-genders", "names-alike"}


@pytest.mark.parametrize(
    ("name", "near"),
    [("speakr", "speaker"), ("emotoin", "emotion"), ("Speaker", "speaker"), ("sesion", "session"),
     ("aruosal", "arousal"), ("starts", "start"), ("PATH", "path"), ("gendre", "gender")],
)  # fmt: skip
def test_columns_that_are_nearly_known(name: str, near: str) -> None:
    (finding,) = columns_near([name, "valence", "mood"])
    assert finding.examples == (f"{name} ({near}?)",)


def test_columns_that_are_no_slip() -> None:
    assert columns_near(["emotion", "Emotion", "mood", "age", "spk", "score1", "score2"]) == []
    assert columns_near(["emotoin"], ["emotoin"]) == []
    assert columns_near(["moood"], ["mood"])[0].examples == ("moood (mood?)",)


def test_a_manifest_is_brought_into_one_form_and_what_was_merged_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav", "3.wav", "4.wav")
    write(
        tmp_path / "manifest.csv",
        f"path,speaker\u200b,session,{D},arousal",
        f"1.wav,{C},s\u00a01,x  y,1\u00a0",
        f"2.wav,{D},s 1,x\u202fy,\u200b2",
        f"3.wav,{D} ,\u2007s  1,x y,\u00a0",
        "4.wav,Bo,s1,,?",
    )
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert table.rows["speaker"].tolist() == [C, C, C, "Bo"]
    assert table.rows["session"].tolist() == ["s 1", "s 1", "s 1", "s1"]
    assert table.labels == {C: ("x y",)}
    assert table.rows[C].tolist() == ["x y", "x y", "x y", ""]
    assert table.targets == ("arousal",)
    assert table.rows["arousal"].tolist()[:2] == [1.0, 2.0]
    assert table.rows["arousal"].isna().tolist() == [False, False, True, True]
    merges = kinds(table)["spellings"]
    assert merges.count == 3
    assert "speaker 'Zoe\\u0308' (2 rows) = 'Zo\\xeb' (1 row)" in merges.examples
    assert "session s 1 (3 rows) beside s1 (1 row)" in kinds(table)["names-alike"].text
    # As the same in one form.
    plain = tmp_path / "plain"
    touch(plain, "1.wav", "2.wav", "3.wav", "4.wav")
    write(plain / "manifest.csv", f"path,speaker,session,{C},arousal", f"1.wav,{C},s 1,x y,1",
          f"2.wav,{C},s 1,x y,2", f"3.wav,{C},s 1,x y,", "4.wav,Bo,s1,,")  # fmt: skip
    assert table_hash(read_corpus("mine", plain, reader="manifest")) == table_hash(table)
    # Findings are no part of it.
    table.findings.clear()
    assert table_hash(read_corpus("mine", plain, reader="manifest")) == table_hash(table)


def test_options_of_a_reader_are_in_one_form(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    write(tmp_path / f"{D}.csv", f"path,{D}", "1.wav,a b", "2.wav,c")
    options = {"file": f"{C}.csv", "labels": {f"{D} ": ["c", "a\u00a0b"]}}
    table = read_corpus("mine", tmp_path, reader="manifest", options=options)
    assert table.labels == {C: ("c", "a b")}
    assert table.rows[C].tolist() == ["a b", "c"]


def test_columns_and_ids_that_become_one_are_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    write(tmp_path / "manifest.csv", f"path,{C},{D}", "1.wav,a,b")
    with pytest.raises(CorpusError, match=f"the column {C} stands twice"):
        read_corpus("mine", tmp_path, reader="manifest")
    write(tmp_path / "manifest.csv", "path,utterance", f"1.wav,{C}", f"2.wav,{D}\u200b")
    with pytest.raises(CorpusError, match=rf"stand more than once: {C} \(1.wav and 2.wav\)"):
        read_corpus("mine", tmp_path, reader="manifest")
    touch(tmp_path, "a b.wav", "a  b.wav")
    write(tmp_path / "manifest.csv", "path", "a b.wav", "a  b.wav")
    with pytest.raises(CorpusError, match=r"a b \('a b.wav' and 'a  b.wav'\)"):
        read_corpus("mine", tmp_path, reader="manifest")


def test_a_misspelt_column_and_an_unlabelled_row_of_a_manifest(tmp_path: Path) -> None:
    names = [f"{n}.wav" for n in range(12)]
    touch(tmp_path, *names)
    labels = ["Anger", *["anger"] * 10, ""]
    lines = [f"{one},s{n % 3},{labels[n]}" for n, one in enumerate(names)]
    write(tmp_path / "manifest.csv", "path,speakr,emotion", *lines)
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert kinds(table)["columns-near"].examples == ("speakr (speaker?)",)
    assert kinds(table)["rows-unlabelled"].text == "1 row has no emotion: 11"
    assert "emotion Anger (1 row) beside anger (10 rows)" in kinds(table)["names-alike"].text
    write_table(tmp_path / "out", table)
    assert read_table(tmp_path / "out").findings == table.findings


def test_tables_of_older_versions_are_read_in_one_form(tmp_path: Path) -> None:
    rows = frame(speaker=[C, D, "x\u00a0y"], mood=["\u00c4", "A\u0308", ""])
    synthetic.write(tmp_path, rows, {}, labels={"mood": ("A\u0308", "\u00c4")})
    table = read_table(tmp_path / "made")
    assert table.rows["speaker"].tolist() == [C, C, "x y"]
    assert table.rows["mood"].tolist() == ["\u00c4", "\u00c4", ""]
    assert table.labels == {"mood": ("\u00c4",)}
    (finding,) = table.findings
    assert (finding.kind, finding.count) == ("spellings", 2)


def test_a_speaker_in_two_forms_is_on_one_side_of_a_fold(tmp_path: Path) -> None:
    speakers = [C, D, "a", "b"] * 3
    labels = ["calm", "keen"] * 6
    synthetic.write(tmp_path / "stores", frame(speaker=speakers, mood=labels), {},
                    labels={"mood": ("calm", "keen")})  # fmt: skip
    recipe = load_recipe(write_recipe(tmp_path, (
        'models = ["one"]\ntarget = "mood"\n[corpora.made]\nreader = "manifest"\n[split]\n'
        'outer = "leave-one-speaker-out"\ninner_folds = 2\n[head]\nkind = "svc"\nselect = "uar"\n'
    )))  # fmt: skip
    lint = lint_recipe(recipe, tmp_path / "stores")
    assert {part.fold for part in lint.parts} == {f"made/{one}" for one in (C, "a", "b")}


def test_emobox_lists_in_the_other_form(tmp_path: Path) -> None:
    folder = tmp_path / "data/mine/fold_1"
    for part, name in (("train", "o\u0308ne"), ("test", "two\u200b")):
        entry = json.dumps({"wav": f"wav/{name}.wav"}, ensure_ascii=False)
        write(folder / f"mine_{part}_fold_1.jsonl", entry)
    rows = pd.DataFrame({"utterance": ["two", "\u00f6ne"], "speaker": ["", ""]})
    (fold,) = read_emobox(tmp_path, "mine", rows).folds
    assert (fold.train, fold.test) == (("\u00f6ne",), ("two",))


def test_compare_labels_in_the_other_form(tmp_path: Path) -> None:
    targets = (
        "Anger,Boredom,Calmness,Concentration,Determination,Excitement,Interest,Sadness,Tiredness"
    )
    shares = ",".join(["0.5"] * 9)
    touch(tmp_path, f"wav/{D}.wav", "wav/a b.wav")
    write(tmp_path / "lab/train.csv", f"name,{targets}", f"{C}.wav,{shares}",
          f"a\u00a0b.wav,{shares}")  # fmt: skip
    write(tmp_path / "lab/speakers.csv", "filename,speaker,gender,language",
          f"{D}.wav,{D},female,de", f"a b.wav,{C},female,de")  # fmt: skip
    table = read_corpus("hume-prosody", tmp_path)
    assert row(table, C)["path"] == f"wav/{D}.wav"
    assert row(table, "a b")["path"] == "wav/a b.wav"
    assert table.rows["speaker"].tolist() == [C, C]
    write(tmp_path / "lab/devel.csv", f"name,{targets}", f"{D}.wav,{shares}")
    with pytest.raises(CorpusError, match="1 file stands in the labels more than once"):
        read_corpus("hume-prosody", tmp_path)


def test_podcast_lists_in_the_other_form(tmp_path: Path) -> None:
    touch(tmp_path, f"Audios/{D}.wav", "Audios/b.wav")
    write(tmp_path / "Labels/labels_consensus.csv",
          "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set",
          f"{C}.wav,A,4,4,4,1,Female,\u200bTrain", "b.wav,N\u00a0,4,4,4,2,Male,Train",
          )  # fmt: skip
    write(tmp_path / "Partitions.txt", f"Train; {D}.wav")
    table = read_corpus("msp-podcast", tmp_path)
    assert dict(zip(table.rows["utterance"], table.rows["emotion"], strict=True)) == {
        C: "angry", "b": "neutral",
    }  # fmt: skip
    assert row(table, C)["path"] == f"Audios/{D}.wav"


RECIPE = f"""
models = ["mfcc", "m\u00a0x"]
target = "{D}"
[corpora."{D}"]
reader = "manifest"
root = "{D}"
[corpora.other]
reader = "manifest"
[labels.map."{D} "]
"A\u0308rger" = "angry"
Freude = "gla\u200bd"
[labels.map.other]
wut = " angry "
freude = "glad"
[split]
outer = "cross-corpus"
train = ["{D}"]
test = ["other"]
[head]
kind = "svc"
select = "uar"
[fusion."{D}"]
method = "mean"
members = ["m x", "mfcc"]
"""


def test_recipes_are_in_one_form_but_for_paths(tmp_path: Path) -> None:
    path = tmp_path / f"{D}.toml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / f"{C}.toml", models=["m\u202fx"], corpora=[D])
    assert recipe.name == C
    assert recipe.target == C
    assert list(recipe.corpora) == [C]
    assert recipe.corpora[C].root == D
    assert list(recipe.models) == ["m x"]
    assert recipe.label_maps == {C: {"\u00c4rger": "angry", "Freude": "glad"}}
    assert recipe.labels == ("angry", "glad")
    assert recipe.split.train == [C]
    assert recipe.fusion[C].members == ["m x", "mfcc"]
    plain = RECIPE.replace(f'root = "{D}"', "root = 1").encode().decode()
    for one, other in ((D, C), ("A\u0308", "\u00c4"), ("\u200b", ""), ("\u00a0", " ")):
        plain = plain.replace(one, other)
    path.write_text(plain.replace("root = 1", f'root = "{D}"'), encoding="utf-8")
    assert load_recipe(path, models=["m x"], corpora=[C]).resolved() == recipe.resolved()


def test_names_of_a_recipe_that_become_one_are_faults(tmp_path: Path) -> None:
    text = RECIPE.replace("Freude = ", '"\u00c4rger" = ').replace('"mfcc", ', '"mfcc", "mfcc ", ')
    text += 'labels_ = 1\n[fusion."m\u00a0x"]\nmethod = "mean"\n[fusion."m x"]\nmethod = "vote"\n'
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe(tmp_path, text))
    lines = str(caught.value).splitlines()
    why = "stands twice, in spellings that differ in accents, blanks or what is invisible"
    assert f"  '\u00c4rger' {why}" in lines
    assert f"  'm x' {why}" in lines
    assert "  models: mfcc is named twice" in lines
    text = RECIPE.partition("[labels")[0].replace(
        "[corpora", f'labels = ["{C}", "{D}"]\n[corpora', 1
    )
    with pytest.raises(RecipeError, match=f"labels: '{C}' is named twice"):
        load_recipe(write_recipe(tmp_path, text + RECIPE[RECIPE.index("[split]") :]))


def test_rows_of_feature_files_in_the_other_form() -> None:
    rows = pd.DataFrame({"utterance": [C, "a b"], "path": [f"wav/{D}.wav", "wav/a b.wav"]})
    find = Matcher(rows)
    assert find(D) == find(f"{D}.wav") == find(f"x/wav/{C}.wav") == C
    assert find("a\u00a0b") == find("\ufeffa  b.wav") == "a b"
