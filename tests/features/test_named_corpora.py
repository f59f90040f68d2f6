"""Corpora whose file names say all, on trees of empty files under their real names."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest

from features.common.errors import CorpusError
from features.corpora import CORPORA, read_corpus
from features.corpora.ema import SENTENCES_AB, SENTENCES_JN_LS
from tests.conftest import SHARED_DATA

NAMED = ("ravdess", "tess", "savee", "emovo", "jtes", "ema", "enterface")
EMOBOX = {
    "angry", "happy", "sad", "neutral", "surprise", "fear", "disgust", "calm", "boredom",
    "contempt", "other",
}  # fmt: skip


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def kinds(table) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {one.kind: (one.count, one.examples) for one in table.findings if one.kind != "counts"}


def rows(table, *columns: str) -> list[tuple[str, ...]]:
    return list(table.rows[list(columns)].itertuples(index=False, name=None))


def listing(name: str) -> list[dict[str, str]]:
    path = SHARED_DATA / "listings" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What all have in common


@pytest.mark.parametrize("record", CORPORA.values(), ids=CORPORA)
def test_label_maps_lead_from_own_labels_to_the_common_ones(record) -> None:
    for name, mapping in record.label_maps.items():
        assert set(mapping) <= set(record.labels["emotion"])
        allowed = EMOBOX if name == "emobox" else {"angry", "happy", "neutral", "sad"}
        assert set(mapping.values()) <= allowed
        if name == "emobox" and record.key in NAMED:
            assert set(mapping) == set(record.labels["emotion"])


@pytest.mark.parametrize("name", NAMED)
def test_nothing_there_and_nothing_so_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=f"no audio file below it; {name} is expected to hold"):
        read_corpus(name, touch(tmp_path, "readme.txt"))
    touch(tmp_path, "x/a.wav", "x/b.wav")
    with pytest.raises(CorpusError, match=r"none of the 2 audio files .*: x/a.wav, x/b.wav; "):
        read_corpus(name, tmp_path)


SAMPLES = {
    "ravdess": ("Actor_01/03-01-06-01-02-01-01", "Actor_02/03-01-01-01-01-01-02"),
    "tess": ("OAF_angry/OAF_back_angry", "YAF_pleasant_surprised/YAF_food_ps"),
    "savee": ("AudioData/DC/a01", "AudioData/JE/a01"),
    "emovo": ("EMOVO/f1/dis-f1-b1", "EMOVO/m3/tri-m3-d2"),
    "jtes": ("wav/f01/ang/f01_ang_01", "wav/m01/joy/m01_joy_50"),
    "ema": ("ab/Wavfiles/4emo_ab_angry_01_001", "jn/Wavfiles/4emo_jn_happy_33"),
    "enterface": ("subject 1/anger/sentence 1/s1_an_1", "subject 2/fear/sentence 3/s2_fe_3"),
}


@pytest.mark.parametrize("name", NAMED)
def test_trees_of_the_wild(tmp_path: Path, name: str) -> None:
    """Below any folder, packed twice, upper-case suffixes, hidden files, strangers."""
    one, two = SAMPLES[name]
    table = read_corpus(name, touch(tmp_path / "plain", f"{one}.wav", f"{two}.wav"))
    wild = touch(
        tmp_path / "wild",
        f"a copy (1)/{one}.WAV",
        f"a copy (1)/{two}.wav",
        f"a copy (1)/a copy (1)/{one}.WAV",
        f"a copy (1)/a copy (1)/{two}.wav",
        f"a copy (1)/{Path(two).parent}/._{Path(two).name}.wav",
        "__MACOSX/notes.wav",
    )
    again = read_corpus(name, wild)
    columns = ["utterance", "speaker", "gender", "language", "session", "sentence", "emotion"]
    assert rows(again, *columns) == rows(table, *columns)
    assert len(again.rows) == 2
    assert again.rows["path"].str.count("copy").tolist() == [1, 1]
    assert kinds(again)["copies"][0] == 2
    assert kinds(again)["names"] == (1, ("__MACOSX/notes.wav",))
    assert "copies" not in kinds(table)
    assert "utterances 2 (published" in next(o.text for o in table.findings if o.kind == "counts")


def test_copies_of_another_size_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "EMOVO/f1/dis-f1-b1.wav", "old/EMOVO/f1/dis-f1-b1.wav")
    touch(tmp_path, "a/flac/EMOVO/f1/dis-f1-b1.flac")
    (tmp_path / "old/EMOVO/f1/dis-f1-b1.wav").write_bytes(b"other")
    table = read_corpus("emovo", tmp_path)
    assert table.rows["path"].tolist() == ["EMOVO/f1/dis-f1-b1.wav"]
    assert kinds(table)["copies"] == (1, ("a/flac/EMOVO/f1/dis-f1-b1.flac",))
    assert kinds(table)["copies-differ"] == (1, ("old/EMOVO/f1/dis-f1-b1.wav",))


# RAVDESS


def ravdess_names() -> list[str]:
    return [
        f"Actor_{actor:02}/03-01-{emotion:02}-{level:02}-{text:02}-{take:02}-{actor:02}.wav"
        for actor, emotion, level, text, take in product(
            range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)
        )
        if not (emotion == 1 and level == 2)
    ]


@pytest.mark.parametrize("above", ["", "Audio_Speech_Actors_01-24/", "audio/speech set/"])
def test_ravdess(tmp_path: Path, above: str) -> None:
    touch(tmp_path, *(above + name for name in ravdess_names()))
    table = read_corpus("ravdess", tmp_path, strict_counts=True)
    assert table.findings == []
    one = table.rows.set_index("utterance").loc["03-01-06-02-02-01-12"]
    told = ("speaker", "gender", "language", "session", "sentence", "emotion", "intensity")
    assert tuple(one[list(told)]) == ("12", "female", "en", "", "dogs", "fearful", "strong")
    assert table.rows.groupby("speaker")["gender"].first().value_counts()["male"] == 12
    assert table.labels["intensity"] == ("normal", "strong")


def test_ravdess_songs_and_videos_are_counted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Actor_01/03-01-05-01-01-01-01.wav",
        "Actor_01/03-02-05-01-01-01-01.wav",
        "Audio_Song_Actors_01-24/Actor_01/03-02-05-01-01-02-01.wav",
        "Video_Speech_Actor_01/Actor_01/01-01-05-01-01-01-01.mp4",
        "Video_Speech_Actor_01/Actor_01/02-01-05-01-01-01-01.mp4",
        "Video_Speech_Actor_01/Actor_01/01-01-05-01-01-01-01.wav",
        "Actor_25/03-01-05-01-01-01-25.wav",
        "Actor_01/03-01-09-01-01-01-01.wav",
    )
    table = read_corpus("ravdess", tmp_path)
    assert rows(table, "utterance", "emotion") == [("03-01-05-01-01-01-01", "angry")]
    assert {kind: n for kind, (n, _) in kinds(table).items()} == {
        "videos": 3, "songs": 2, "names": 2, "class-rare": 1
    }  # fmt: skip
    (tmp_path / "Actor_01/03-01-05-01-01-01-01.wav").unlink()
    with pytest.raises(CorpusError, match="no audio file below it"):
        read_corpus("ravdess", tmp_path)


def test_ravdess_as_published(tmp_path: Path) -> None:
    published = {Path(one["path"]).stem: one for one in listing("ravdess")}
    touch(tmp_path, *(one["path"] for one in published.values()))
    table = read_corpus("ravdess", tmp_path, strict_counts=True)
    assert table.findings == []
    told = {
        utterance: label.capitalize() for utterance, label in rows(table, "utterance", "emotion")
    }
    assert told == {stem: one["label"] for stem, one in published.items()}


# TESS


def test_tess_in_folders_with_the_oddities_of_its_copies(tmp_path: Path) -> None:
    folder = "TESS Toronto emotional speech set data"
    touch(
        tmp_path,
        f"{folder}/OAF_neutral/OA_bite_neutral.wav",
        f"{folder}/OAF_Pleasant_surprise/OAF_Bite_ps.wav",
        f"{folder}/YAF_sad/YAF_bite_sad.wav",
        f"{folder}/{folder}/OAF_neutral/OAF_bite_neutral.wav",
    )
    table = read_corpus("tess", tmp_path)
    assert rows(table, "utterance", "speaker", "sentence", "emotion") == [
        ("OAF_Bite_ps", "OAF", "bite", "pleasant surprise"),
        ("OA_bite_neutral", "OAF", "bite", "neutral"),
        ("YAF_bite_sad", "YAF", "bite", "sadness"),
    ]
    assert set(table.rows["gender"]) == {"female"}
    assert kinds(table)["copies"][0] == 1


def test_tess_as_published(tmp_path: Path) -> None:
    published = listing("tess")
    touch(tmp_path, *(one["path"] for one in published))
    table = read_corpus("tess", tmp_path, strict_counts=True)
    assert table.findings == []
    own = {"anger": "angry", "happiness": "happy", "pleasant surprise": "ps", "sadness": "sad"}
    told = {path: own.get(label, label) for path, label in rows(table, "path", "emotion")}
    assert told == {one["path"]: one["label"] for one in published}
    assert table.rows.groupby("speaker")["sentence"].nunique().tolist() == [200, 200]


# SAVEE


def savee_names(between: str) -> list[str]:
    codes = [f"{code}{n:02}" for code in ("a", "d", "f", "h", "sa", "su") for n in range(1, 16)]
    codes += [f"n{n:02}" for n in range(1, 31)]
    return [
        f"{speaker}{between}{code}.wav" for speaker in ("DC", "JE", "JK", "KL") for code in codes
    ]


@pytest.mark.parametrize(("above", "between"), [("AudioData/", "/"), ("", "/"), ("ALL/", "_")])
def test_savee(tmp_path: Path, above: str, between: str) -> None:
    touch(tmp_path, *(above + name for name in savee_names(between)))
    table = read_corpus("savee", tmp_path, strict_counts=True)
    assert table.findings == []
    one = table.rows.set_index("utterance").loc[f"KL{between}sa03"]
    assert tuple(one[["speaker", "gender", "sentence", "emotion"]]) == (
        "KL", "male", "sa03", "sadness"
    )  # fmt: skip
    assert table.rows["utterance"].is_unique


def test_savee_without_speakers_is_no_savee(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="named <speaker>/<emotion letters><two digits>: a01.wav"):
        read_corpus("savee", touch(tmp_path, "a01.wav"))


# EMOVO


def test_emovo(tmp_path: Path) -> None:
    sentences = ["b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2"]
    emotions = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    speakers = ("f1", "f2", "f3", "m1", "m2", "m3")
    touch(
        tmp_path,
        *(f"EMOVO/{s}/{e}-{s}-{t}.wav" for s, e, t in product(speakers, emotions, sentences)),
        "EMOVO/documenti/EMOVO.pdf",
    )
    table = read_corpus("emovo", tmp_path, strict_counts=True)
    assert table.findings == []
    one = table.rows.set_index("utterance").loc["pau-m2-d1"]
    assert tuple(one[["speaker", "gender", "language", "sentence", "emotion"]]) == (
        "m2", "male", "it", "d1", "fear"
    )  # fmt: skip
    words = {"dis": "disgust", "gio": "joy", "neu": "neutral", "pau": "fear", "rab": "anger",
             "sor": "surprise", "tri": "sadness"}  # fmt: skip
    assert all(words[u[:3]] == label for u, label in rows(table, "utterance", "emotion"))


# JTES


def jtes_tree(root: Path, numbers: range) -> Path:
    speakers = [f"{letter}{n:02}" for letter in "fm" for n in range(1, 51)]
    return touch(root, *(
        f"jtes_v1.1/wav/{s}/{e}/{s}_{e}_{n:02}.wav"
        for s, e, n in product(speakers, ("ang", "joy", "neu", "sad"), numbers)
    ))  # fmt: skip


def test_jtes_keeps_f01_and_m01_apart(tmp_path: Path) -> None:
    table = read_corpus("jtes", jtes_tree(tmp_path, range(50, 51)))
    assert table.rows["speaker"].nunique() == 100
    assert table.rows["gender"].value_counts().to_dict() == {"female": 200, "male": 200}
    assert table.rows["sentence"].unique().tolist() == ["ang-50", "joy-50", "neu-50", "sad-50"]
    assert set(table.rows["session"]) == {""}
    one = table.rows.set_index("utterance").loc["m01_joy_50"]
    assert tuple(one[["speaker", "language", "emotion"]]) == ("m01", "ja", "joy")
    assert "tree-unverified" in kinds(table)
    counts = next(o for o in table.findings if o.kind == "counts").examples
    assert "utterances 400 (published: 20000)" in counts
    assert not [one for one in counts if one.startswith("speakers")]


def test_jtes_sessions_are_an_option(tmp_path: Path) -> None:
    jtes_tree(tmp_path, range(1, 2))
    table = read_corpus("jtes", tmp_path, options={"sessions": 5})
    per = table.rows.groupby("session")["speaker"]
    assert per.nunique().to_dict() == dict.fromkeys("12345", 20)
    assert sorted(per.get_group("5").unique())[::10] == ["f41", "m41"]
    for wrong in (3, 0, "5", True):
        with pytest.raises(CorpusError, match=r"option sessions = .*: expected 1, 2, 5, 10"):
            read_corpus("jtes", tmp_path, options={"sessions": wrong})


# EMA


def test_ema(tmp_path: Path) -> None:
    emotions = ("angry", "happy", "neutral", "sad")
    names = [
        f"ab/Wavfiles/4emo_ab_{e}_{n:02}_{n + 3:03}.wav" for e in emotions for n in range(1, 71)
    ]
    names += [f"jn/Wavfiles/4emo_jn_{e}_{n:02}.wav" for e in emotions for n in range(1, 51)]
    names += [f"ls/Wavfiles/4emo_ls_{e}_{n:02}_{n:03}.wav" for e in emotions for n in range(1, 51)]
    touch(tmp_path, *names, "ab/Matfiles/rot_4emo_ab_angry_01_004.mat", "README.txt")
    table = read_corpus("ema", tmp_path, strict_counts=True)
    assert table.findings == []
    assert table.rows.groupby("speaker")["gender"].first().to_dict() == {
        "ab": "male", "jn": "female", "ls": "female"
    }  # fmt: skip
    # Its README: the sentence number of ab's angry 37 is 7.
    one = table.rows.set_index("utterance").loc["4emo_ab_angry_37_040"]
    assert tuple(one[["sentence", "emotion"]]) == ("7", "anger")


def test_ema_speakers_read_each_sentence_five_times() -> None:
    """Both lists are permutations of 14 and 10 sentences, five times each."""
    assert sorted(SENTENCES_AB) == sorted([*range(1, 15)] * 5)
    assert sorted(SENTENCES_JN_LS) == sorted([*range(1, 11)] * 5)


# eNTERFACE'05

FOLDERS = {"an": "anger", "di": "disgust", "fe": "fear", "ha": "happiness", "sa": "sadness",
           "su": "surprise"}  # fmt: skip


def enterface_names() -> list[str]:
    """The archive's names, with all that is irregular in them."""
    names = []
    for subject, (code, emotion), k in product(range(1, 45), FOLDERS.items(), range(1, 6)):
        stem = f"s{12 if subject == 11 else subject}_{code}_{k}"
        if subject == 3 and (code, k) in {("fe", 5), *product(("ha", "sa", "su"), range(1, 6))}:
            stem = f"s_3_{code}_{k}"
        if (subject, code, k) == (16, "su", 3):
            stem = "s16_su_3avi"
        if (subject, code) == (2, "an") and k in (1, 2):
            stem = f"s2_an_{3 - k}"
        if subject == 23 and code == "ha" and k < 4:
            continue
        if subject != 6:
            names.append(f"subject {subject}/{emotion}/sentence {k}/{stem}.avi")
        elif k == 1:
            names.append(f"subject 6/{emotion}/s6_{code}.avi")
    return names


@pytest.mark.parametrize("above", ["", "enterface database/"])
def test_enterface_folders_are_right_where_names_are_not(tmp_path: Path, above: str) -> None:
    names = enterface_names()
    assert len(names) == 1293
    touch(tmp_path, *(above + name for name in names), f"{above}subject 1/anger/Thumbs.db")
    table = read_corpus("enterface", tmp_path, strict_counts=True)
    assert {kind: n for kind, (n, _) in kinds(table).items()} == {
        "unsegmented": 6, "names-disagree": 30 + 2
    }  # fmt: skip
    by_path = table.rows.set_index(table.rows["path"].str.removeprefix(above))
    told = ["speaker", "emotion", "sentence", "gender"]
    assert [tuple(by_path.loc[name, told]) for name in (
        "subject 11/fear/sentence 2/s12_fe_2.avi",
        "subject 12/fear/sentence 2/s12_fe_2.avi",
        "subject 3/surprise/sentence 1/s_3_su_1.avi",
        "subject 16/surprise/sentence 3/s16_su_3avi.avi",
        "subject 2/anger/sentence 1/s2_an_2.avi",
    )] == [
        ("11", "fear", "fear-2", ""),
        ("12", "fear", "fear-2", ""),
        ("3", "surprise", "surprise-1", ""),
        ("16", "surprise", "surprise-3", ""),
        ("2", "anger", "anger-1", ""),
    ]  # fmt: skip
    assert (by_path["speaker"].value_counts().drop("23") == 30).all()
    assert by_path.loc["subject 1/anger/sentence 1/s1_an_1.avi", "utterance"] == (
        "subject 1/anger/sentence 1/s1_an_1"
    )


def test_enterface_converted_to_audio(tmp_path: Path) -> None:
    name = "subject 1/anger/sentence 1/s1_an_1"
    touch(tmp_path, f"{name}.avi", f"{name}.wav", "subject 1/fear/sentence 2/s1_fe_2.avi")
    table = read_corpus("enterface", tmp_path)
    assert table.rows["path"].tolist() == [f"{name}.wav", "subject 1/fear/sentence 2/s1_fe_2.avi"]
    assert table.rows["utterance"].tolist() == ["s1_an_1", "s1_fe_2"]
    assert kinds(table)["copies"] == (1, (f"{name}.avi",))
    flat = touch(tmp_path / "flat", "s1_an_1.wav", "s12_su_5.wav")
    table = read_corpus("enterface", flat)
    assert rows(table, "speaker", "emotion", "sentence") == [
        ("12", "surprise", "surprise-5"), ("1", "anger", "anger-1")
    ]  # fmt: skip
    assert kinds(table)["no-folders"][0] == 2


def test_enterface_of_whole_sessions_alone(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no recording of a sentence"):
        read_corpus("enterface", touch(tmp_path, "subject 6/anger/s6_an.avi"))
