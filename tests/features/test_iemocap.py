"""IEMOCAP on generated trees; a listing of the published files gives the counts of four classes."""

import csv
from collections import defaultdict

import pytest

from features.common.errors import CorpusError
from features.corpora import get_corpus, read_corpus
from features.utterances import read_table, table_hash, write_table
from tests.conftest import SHARED_DATA
from tests.features.test_corpora import kinds, row, touch, write

LISTING = SHARED_DATA / "listings/iemocap.csv"
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"


def turn_lines(name, code, values="1.5000, 4.0000, 4.5000"):
    return [
        "",
        f"[140.2250 - 145.6000]\t{name}\t{code}\t[{values}]",
        "C-E1:\tAnger;\t()",
        "C-F1:\tAnger; Other;\t(\xe9)",
        "A-E3:\tval 2; act 4; dom  ;\t()",
    ]


TURNS = {
    "Session1": [
        "Ses01F_impro05a_F019 ang",
        "Ses01F_impro05a_M003 xxx",
        "Ses01F_impro05a_MXX0 exc",
    ],
    "Session2": ["Ses02M_script01_1b_F000 dis", "Ses02M_script01_1b_M000 new"],
}


def iemocap_tree(root):
    for session, turns in TURNS.items():
        dialogue = turns[0].rpartition("_")[0]
        lines = [HEADER, *(line for turn in turns for line in turn_lines(*turn.split()))]
        write(root / session / f"dialog/EmoEvaluation/{dialogue}.txt", *lines, encoding="latin-1")
        touch(
            root, *(f"{session}/sentences/wav/{dialogue}/{turn.split()[0]}.wav" for turn in turns)
        )
    touch(root, "Session1/dialog/wav/Ses01F_impro05a.wav",
          "Session1/dialog/EmoEvaluation/._Ses01F_impro05a.txt",
          "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro05a_e2_cat.txt",
          "Session1/sentences/wav/Ses01F_impro05a/._Ses01F_impro05a_F019.wav")  # fmt: skip
    return root


@pytest.mark.parametrize("level", ["", "IEMOCAP_full_release", "IEMOCAP/IEMOCAP_full_release"])
def test_iemocap(tmp_path, level):
    iemocap_tree(tmp_path / level)
    table = read_corpus("iemocap", tmp_path)
    frame = table.rows
    assert frame["utterance"].tolist() == [
        "Ses01F_impro05a_F019", "Ses01F_impro05a_M003", "Ses01F_impro05a_MXX0",
        "Ses02M_script01_1b_F000", "Ses02M_script01_1b_M000",
    ]  # fmt: skip
    path = f"{level}/Session1/sentences/wav/Ses01F_impro05a/Ses01F_impro05a_F019.wav".lstrip("/")
    assert frame["path"].tolist()[0] == path
    assert frame["speaker"].tolist() == ["Ses01F", "Ses01M", "Ses01M", "Ses02F", "Ses02M"]
    assert frame["gender"].tolist() == ["female", "male", "male", "female", "male"]
    assert frame["session"].tolist() == ["Session1"] * 3 + ["Session2"] * 2
    assert frame["sentence"].tolist() == ["impro05a"] * 3 + ["script01_1b"] * 2
    assert frame["style"].tolist() == ["improvised"] * 3 + ["scripted"] * 2
    assert frame["emotion"].tolist() == ["angry", "", "excited", "disgusted", ""]
    assert frame["partition"].tolist() == [""] * 5
    first = row(table, "Ses01F_impro05a_F019")
    assert first[["valence", "activation", "dominance"]].tolist() == [1.5, 4.0, 4.5]
    assert kinds(table)["no-agreement"].examples == ("Ses01F_impro05a_M003",)
    assert kinds(table)["labels-outside-list"].examples == ("Ses02M_script01_1b_M000 (new)",)
    assert set(kinds(table)) == {"no-agreement", "labels-outside-list", "class-rare"}
    (counts,) = [one.text for one in table.findings if one.kind == "counts"]
    assert "speakers 4 (published: 10; missing: Ses03F, Ses03M, Ses04F, Ses04M, Ses05F" in counts
    assert "rows without emotion 2 (published: 2507)" in counts
    write_table(tmp_path / "stores", table)
    assert table_hash(read_table(tmp_path / "stores")) == table_hash(table)


def test_a_style_can_be_kept_alone(tmp_path):
    iemocap_tree(tmp_path)
    table = read_corpus("iemocap", tmp_path, options={"style": "scripted"})
    assert set(table.rows["style"]) == {"scripted"}
    assert kinds(table)["other-style"].count == 3
    with pytest.raises(CorpusError, match=r"style = 'improvized': .*did you mean 'improvised'"):
        read_corpus("iemocap", tmp_path, options={"style": "improvized"})


def test_sides_that_differ_are_named(tmp_path):
    iemocap_tree(tmp_path)
    folder = "Session1/sentences/wav/Ses01F_impro05a"
    (tmp_path / folder / "Ses01F_impro05a_F019.wav").unlink()
    touch(tmp_path, f"{folder}/Ses01F_impro05a_F020.wav")
    table = read_corpus("iemocap", tmp_path)
    assert len(table.rows) == 5
    assert row(table, "Ses01F_impro05a_F019")["path"] == f"{folder}/Ses01F_impro05a_F019.wav"
    assert kinds(table)["labels-without-audio"].examples == ("Ses01F_impro05a_F019",)
    spare = kinds(table)["audio-without-labels"].examples
    assert spare == ("Ses01F_impro05a/Ses01F_impro05a_F020.wav",)


def test_lines_that_are_no_turns_are_listed_together(tmp_path):
    path = iemocap_tree(tmp_path) / "Session1/dialog/EmoEvaluation/Ses01F_impro05a.txt"
    bad = ["[1.0 - 2.0]\tSes01F_impro05a_F001\tang", "[1.0 - 2.0]\tSes01F_x\tang\t[1, 2, high]"]
    write(path, HEADER, *bad, *turn_lines("Ses01F_impro05a_F002", "ang", "1, 2"))
    with pytest.raises(CorpusError, match=r"3 lines are no turns .*impro05a.txt line 2, .*line 5"):
        read_corpus("iemocap", tmp_path)
    write(path, HEADER, *turn_lines("Ses01F_F002", "ang"))
    assert kinds(read_corpus("iemocap", tmp_path))["names"].examples == ("Ses01F_F002",)
    write(path, HEADER, *turn_lines("Ses01F_impro05a_F001", "ang") * 2)
    with pytest.raises(CorpusError, match="more than once: Ses01F_impro05a_F001"):
        read_corpus("iemocap", tmp_path)


def test_without_evaluations_the_layout_is_named(tmp_path):
    touch(tmp_path, "Session1/sentences/wav/a/Ses01F_impro01_F000.wav")
    with pytest.raises(CorpusError, match=r"no folder Session<n>/dialog/EmoEvaluation; .*Session1"):
        read_corpus("iemocap", tmp_path)


@pytest.mark.skipif(not LISTING.is_file(), reason="needs ../shared/data/listings/iemocap.csv")
def test_four_classes_as_published(tmp_path):
    evaluations = defaultdict(list)
    with LISTING.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            touch(tmp_path, line["path"])
            session, *_, dialogue, name = line["path"].split("/")
            evaluations[session, dialogue].append((name.removesuffix(".wav"), line["label"]))
    for (session, dialogue), turns in evaluations.items():
        lines = [line for turn in turns for line in turn_lines(*turn)]
        write(tmp_path / session / f"dialog/EmoEvaluation/{dialogue}.txt", HEADER, *lines)
    table = read_corpus("iemocap", tmp_path)
    frame = table.rows
    assert kinds(table) == {}
    record = get_corpus("iemocap")
    for emotion in ("angry", "happy", "excited", "sad", "neutral"):
        assert (frame["emotion"] == emotion).sum() == record.expected[f"emotion={emotion}"]
    four = frame["emotion"].map(record.label_maps["four-class"])
    assert four.value_counts().to_dict() == {
        "neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084,
    }  # fmt: skip
    assert len(frame) == 5531
    assert frame.groupby("session").size().tolist() == [1085, 1023, 1151, 1031, 1241]
    assert frame.groupby("session")["speaker"].nunique().tolist() == [2] * 5
    # Both speakers occur in the dialogues of either prefix: the prefix is no speaker.
    prefix = frame["utterance"].str[5]
    assert set(zip(prefix, frame["speaker"].str[-1], strict=True)) == {
        ("F", "F"), ("F", "M"), ("M", "F"), ("M", "M"),
    }  # fmt: skip


def test_a_link_to_a_session_is_that_session(tmp_path):
    iemocap_tree(tmp_path)
    alone = read_corpus("iemocap", tmp_path)
    (tmp_path / "Session0").symlink_to("Session1")
    (tmp_path / "Session7").symlink_to("Session2")
    assert read_corpus("iemocap", tmp_path).rows.equals(alone.rows)
