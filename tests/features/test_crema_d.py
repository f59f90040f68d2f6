"""CREMA-D on generated trees under the real names, with rows as the published tables have them."""

import math

import pytest

from features.common.errors import CorpusError
from features.corpora import read_corpus
from features.corpora.crema_d import CREMA_D, EMOTIONS, NAME, SENTENCES
from tests.features.test_corpora import kinds, row, touch, write

CLIPS = ("1001_IEO_ANG_LO", "1002_TIE_NEU_XX", "1076_MTI_SAD_XX")
VOTES = [
    '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"',
    '"100001",0,0,0,1,3,0,"1001_IEO_ANG_LO",4,0.75,"N"',
    '"200001",5,5,0,0,0,0,"1001_IEO_ANG_LO",10,0.5,"A:D"',
    '"300001",8,0,0,0,0,2,"1001_IEO_ANG_LO",10,0.8,"A"',
    '"100002",0,0,0,0,0,0,"1002_TIE_NEU_XX",0,0,""',
    '"100003",0,0,0,0,9,0,"1091_WSI_DIS_XX",9,1,"N"',
]
ACTORS = [
    '"ActorID","Age","Sex","Race","Ethnicity"',
    '1001,51,"Male","Caucasian","Not Hispanic"',
    '1002,21,"Female","Caucasian","Not Hispanic"',
]


def crema_d_tree(root, folder="AudioWAV", suffix="wav"):
    touch(root, *(f"{folder}/{clip}.{suffix}" for clip in CLIPS))
    write(root / "VideoDemographics.csv", *ACTORS)
    write(root / "processedResults/tabulatedVotes.csv", *VOTES)
    return root


@pytest.mark.parametrize("level", ["", "CREMA-D-master"])
def test_crema_d(tmp_path, level):
    crema_d_tree(tmp_path / level)
    table = read_corpus("crema-d", tmp_path)
    frame = table.rows
    assert frame["utterance"].tolist() == list(CLIPS)
    assert frame["path"].tolist()[0] == f"{level}/AudioWAV/{CLIPS[0]}.wav".lstrip("/")
    assert frame["speaker"].tolist() == ["1001", "1002", "1076"]
    assert frame["gender"].tolist() == ["male", "female", ""]
    assert frame["age"].tolist()[:2] == [51.0, 21.0]
    assert math.isnan(frame["age"].tolist()[2])
    assert frame["sentence"].tolist() == ["IEO", "TIE", "MTI"]
    assert frame["emotion"].tolist() == ["anger", "neutral", "sad"]
    assert frame["intensity"].tolist() == ["low", "", ""]
    assert set(frame["language"]) == {"en"}
    assert kinds(table)["known-bad"].examples == ("1076_MTI_SAD_XX",)
    assert kinds(table)["speakers-missing"].examples == ("1076",)


def test_shares_of_votes_keep_hearing_seeing_and_both_apart(tmp_path):
    table = read_corpus("crema-d", crema_d_tree(tmp_path))
    first = row(table, "1001_IEO_ANG_LO")
    assert first["voice_neutral"] == 0.75
    assert first["voice_happy"] == 0.25
    assert first["voice_anger"] == 0.0
    assert first["face_anger"] == first["face_disgust"] == 0.5
    assert first["multimodal_anger"] == 0.8
    assert first["multimodal_sad"] == 0.2
    assert math.isnan(row(table, "1002_TIE_NEU_XX")["voice_neutral"])
    assert math.isnan(row(table, "1076_MTI_SAD_XX")["face_sad"])
    assert kinds(table)["labels-without-audio"].examples == ("1091_WSI_DIS_XX",)
    assert kinds(table)["audio-without-labels"].examples == ("1076_MTI_SAD_XX",)


def test_audio_alone_gives_labels_and_says_what_is_missing(tmp_path):
    touch(tmp_path, *(f"{clip}.WAV" for clip in CLIPS))
    table = read_corpus("crema-d", tmp_path)
    assert table.rows["emotion"].tolist() == ["anger", "neutral", "sad"]
    assert table.rows["voice_anger"].isna().all()
    assert kinds(table)["labels-missing"].count == 3
    assert kinds(table)["speakers-missing"].count == 3


def test_wav_is_preferred_and_mp3_has_more_damaged_files(tmp_path):
    touch(tmp_path, "AudioMP3/1076_MTI_NEU_XX.mp3", "AudioMP3/1001_IEO_ANG_LO.mp3")
    table = read_corpus("crema-d", tmp_path)
    assert kinds(table)["known-bad"].examples == ("1076_MTI_NEU_XX",)
    touch(tmp_path, "AudioWAV/1076_MTI_NEU_XX.wav")
    table = read_corpus("crema-d", tmp_path)
    assert table.rows["path"].tolist() == ["AudioWAV/1076_MTI_NEU_XX.wav"]
    assert "known-bad" not in kinds(table)


def test_other_names_copies_and_hidden_files_are_left_out(tmp_path):
    crema_d_tree(tmp_path)
    touch(tmp_path, "AudioWAV/1001_XXX_ANG_LO.wav", "AudioWAV/._1001_IEO_ANG_LO.wav",
          "AudioWAV/copy/1001_IEO_ANG_LO.wav", "VideoFlash/1001_IEO_ANG_LO.flv")  # fmt: skip
    table = read_corpus("crema-d", tmp_path)
    assert len(table.rows) == 3
    assert kinds(table)["names"].examples == ("AudioWAV/1001_XXX_ANG_LO.wav",)
    assert kinds(table)["duplicates"].examples == ("AudioWAV/copy/1001_IEO_ANG_LO.wav",)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('"400001",0,0,0,1,3,0,"1001_IEO_ANG_LO",4,0,""', r"row '400001' of 1001_IEO_ANG_LO"),
        ('"1",0,0,0,1,3,0,"1001_IEO_ANG_LO",4,0,""', "row '1' of 1001_IEO_ANG_LO"),
        ('"100001",0,0,0,x,3,0,"1001_IEO_ANG_LO",4,0,""', r"\(0, 0, 0, x, 3, 0\)"),
        ('"100001",0,0,0,-1,3,0,"1001_IEO_ANG_LO",4,0,""', r"1 row is no vote "),
    ],
)
def test_votes_that_are_none(tmp_path, line, match):
    crema_d_tree(tmp_path)
    write(tmp_path / "processedResults/tabulatedVotes.csv", VOTES[0], line)
    with pytest.raises(CorpusError, match=match):
        read_corpus("crema-d", tmp_path)


def test_tables_that_lack_columns_or_hold_no_numbers(tmp_path):
    crema_d_tree(tmp_path)
    write(tmp_path / "processedResults/tabulatedVotes.csv", *VOTES[:2], VOTES[1])
    with pytest.raises(CorpusError, match=r"more than once: 1001_IEO_ANG_LO \(voice\)"):
        read_corpus("crema-d", tmp_path)
    write(tmp_path / "processedResults/tabulatedVotes.csv", '"",A,fileName', "100001,1,x")
    with pytest.raises(CorpusError, match=r"tabulatedVotes.csv: no column D, F, H, N, S; it has"):
        read_corpus("crema-d", tmp_path)
    write(tmp_path / "VideoDemographics.csv", ACTORS[0], "1001,old,Male,,")
    with pytest.raises(CorpusError, match=r"1 ages are no numbers: 1001 \('old'\)"):
        read_corpus("crema-d", tmp_path)


def test_without_audio(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio file below it.*AudioWAV/\*.wav"):
        read_corpus("crema-d", tmp_path)


def test_a_tree_of_the_published_size_has_the_published_counts(tmp_path):
    # What is missing of 91 x 82 is known: all of a sentence of three actors but one emotion each.
    names = []
    for actor in range(1001, 1092):
        for sentence in SENTENCES:
            for emotion in EMOTIONS:
                levels = ["LO", "MD", "HI"] if sentence == "IEO" and emotion != "NEU" else ["XX"]
                names += [f"{actor}_{sentence}_{emotion}_{level}" for level in levels]
    gone = {f"{who}_{emotion}_XX" for who in ("1008_WSI", "1009_MTI", "1019_ITH")
            for emotion in EMOTIONS} | {"1002_TIE_NEU_XX", "1076_ITS_NEU_XX"}  # fmt: skip
    names = [name for name in names if name not in gone]
    assert all(NAME.fullmatch(name) for name in names)
    touch(tmp_path, *(f"AudioWAV/{name}.wav" for name in names))
    table = read_corpus("crema-d", tmp_path, strict_counts=True)
    assert len(table.rows) == CREMA_D.expected["utterances"] == 7442
    assert (table.rows["intensity"] == "").sum() == 6077
