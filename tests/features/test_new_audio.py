"""Audio of no corpus: its table, its name, and what predicts it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from features.common.errors import CorpusError, RecipeError
from features.new_audio import audio_table, corpus_name, system_of
from tests.models import synthetic
from tests.models.test_train import SVC

FUSIONS = '[fusion.nine]\nmethod = "mean"\n[fusion.two]\nmethod = "vote"\n'


def touch(folder: Path, *names: str) -> list[str]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [str(path) for path in paths]


def test_a_folder_stands_for_the_audio_below_it(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.wav", "deep/b.FLAC", "c.mp3", "d.avi", "notes.txt", ".hidden.wav")
    (other,) = touch(tmp_path, "out/talk.odd")
    table, root = audio_table([str(tmp_path / "in"), other, str(tmp_path / "in/a.wav")])
    assert table.rows["utterance"].tolist() == ["a", "b", "c", "d", "talk"]
    assert table.rows["path"].tolist()[1] == str(tmp_path / "in/deep/b.FLAC")
    assert table.rows["corpus"].unique().tolist() == [table.corpus["key"]]
    assert table.rows["seconds"].isna().all()
    assert root == tmp_path


def test_ids_are_paths_where_stems_are_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav")
    table, _ = audio_table([str(tmp_path)])
    assert table.rows["utterance"].tolist() == ["x/a", "y/a"]
    touch(tmp_path, "x/a.flac")
    with pytest.raises(CorpusError, match=r"1 utterance ids stand more than once: x/a \(.*a.flac"):
        audio_table([str(tmp_path)])


def test_the_name_depends_on_what_was_named_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = corpus_name([str(tmp_path / "b"), str(tmp_path / "a")])
    monkeypatch.chdir(tmp_path)
    assert corpus_name(["a", "./b/"]) == name
    assert corpus_name(["a", "a", "b"]) == name
    assert corpus_name(["a"]) != name
    assert name.startswith("predict-")


def test_all_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.wav")
    Path(odd).touch()
    with pytest.raises(CorpusError) as caught:
        audio_table([str(tmp_path / "empty"), str(tmp_path / "gone.wav"), odd])
    first, second, third, hint = str(caught.value).splitlines()
    assert "empty: no audio file below it (.wav, .flac" in first
    assert "gone.wav': no such file or folder" in second
    assert "xff.wav': its name is no UTF-8" in third.replace("udcff", "xff")
    assert hint.endswith("""quoted twice for make: AUDIO="'new audio' 'it is.wav'\"""")
    with pytest.raises(CorpusError, match=r"gone.wav': no such file or folder$"):
        audio_table([str(tmp_path / "gone.wav")])


def test_what_predicts(tmp_path: Path) -> None:
    recipe = synthetic.recipe(tmp_path, SVC + FUSIONS)
    first = system_of(recipe)
    assert (first.kind, first.name, first.members) == ("fusion", "nine", ["one", "two"])
    assert system_of(recipe, fusion="two").name == "two"
    alone = system_of(recipe, member="two@7")
    assert (alone.kind, alone.members, alone.models) == ("model", ["two@7"], ["two"])
    with pytest.raises(RecipeError, match=r"no \[fusion.nin\]; it has: nine, two; did you mean"):
        system_of(recipe, fusion="nin")
    with pytest.raises(RecipeError, match=r"tow@7 is no run of its models \(one, two\)"):
        system_of(recipe, member="tow@7")
    plain = synthetic.recipe(tmp_path, SVC)
    with pytest.raises(RecipeError, match=r"no \[fusion.NAME\] and 2 runs \(one, two\); name one"):
        system_of(plain)
    lone = plain.model_copy(update={"models": {"one": plain.models["one"]}})
    assert system_of(lone).members == ["one"]
    assert np.unique(first.models).tolist() == ["one", "two"]


def test_names_are_found_in_either_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path, "Zoe\u0308/e\u0301.wav")
    for form in ("Zo\u00eb", "Zoe\u0308"):
        table, _ = audio_table([str(tmp_path / form)])
        assert table.rows["utterance"].tolist() == ["\u00e9"]
        assert table.rows["path"].tolist() == [str(tmp_path / "Zoe\u0308/e\u0301.wav")]
        assert table.corpus["key"] == corpus_name([str(tmp_path / "Zo\u00eb")])
    table, _ = audio_table([str(tmp_path / "Zo\u00eb/\u00e9.wav")])
    assert table.rows["path"].tolist() == [str(tmp_path / "Zoe\u0308/e\u0301.wav")]


def test_sound_of_kinds_that_are_not_read_is_named(tmp_path: Path) -> None:
    for name in ("a.wav", "b.w64", "c.CAF", "d.sph", "e.oga", "f.m4a", "g.webm", "notes.txt"):
        (tmp_path / name).write_bytes(b"sound")
    table, _ = audio_table([str(tmp_path)])
    assert table.rows["utterance"].tolist() == ["a", "b", "c", "d", "e"]
    (found,) = table.findings
    assert (found.kind, found.examples) == ("unread-audio", ("f.m4a", "g.webm"))
    assert "passed over (ffmpeg -i FILE NEW.wav converts it)" in found.text
