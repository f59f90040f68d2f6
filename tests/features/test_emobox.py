"""EmoBox's folds on generated lists, with lines as the shipped ones have them."""

import json

import numpy as np
import pandas as pd
import pytest

from features.common.errors import CorpusError
from features.splits.emobox import EmoBoxFold, read_emobox
from tests.features.test_corpora import write


def line(wav, key=None):
    stem = wav.rpartition("/")[2].rpartition(".")[0]
    return json.dumps(
        {"key": key or f"x-{stem.replace('_', '-')}", "dataset": "x", "wav": wav, "type": "raw",
         "sample_rate": 16000, "num_frame": 70312.0, "task": "category", "length": 4.3945,
         "emo": "neu", "channel": 1}
    )  # fmt: skip


def lists(root, name, fold, **parts):
    for part, wavs in parts.items():
        write(root / f"data/{name}/fold_{fold}/{name}_{part}_fold_{fold}.jsonl", *map(line, wavs))
    return root


def table(*utterances, speakers=None):
    return pd.DataFrame({"utterance": utterances, "speaker": speakers or [""] * len(utterances)})


def crema(*names):
    return [f"downloads/cremad/AudioWAV/{name}.wav" for name in names]


@pytest.mark.parametrize("level", ["", "data", "data/cremad"])
def test_folds_of_a_corpus(tmp_path, level):
    lists(tmp_path, "cremad", 1, train=crema("1001_IEO_ANG_LO", "1002_TIE_NEU_XX"),
          test=crema("1001_TIE_SAD_XX"))  # fmt: skip
    lists(tmp_path, "cremad", 10, train=crema("1001_TIE_SAD_XX"), valid=crema("1002_TIE_NEU_XX"),
          test=crema("1001_IEO_ANG_LO", "1009_ITS_FEA_XX"))  # fmt: skip
    lists(tmp_path, "cremad", 2, train=[], test=crema("1002_TIE_NEU_XX"))
    rows = table("1001_IEO_ANG_LO", "1001_TIE_SAD_XX", "1002_TIE_NEU_XX", "1003_TIE_NEU_XX",
                 speakers=["1001", "1001", "1002", "1003"])  # fmt: skip
    split = read_emobox(tmp_path / level, "crema-d", rows)
    assert split.folds == (
        EmoBoxFold("1", ("1001_IEO_ANG_LO", "1002_TIE_NEU_XX"), (), ("1001_TIE_SAD_XX",)),
        EmoBoxFold("2", (), (), ("1002_TIE_NEU_XX",)),
        EmoBoxFold("10", ("1001_TIE_SAD_XX",), ("1002_TIE_NEU_XX",), ("1001_IEO_ANG_LO",)),
    )
    assert split.unmatched == ("x-1009-ITS-FEA-XX",)
    assert split.left_out == ("1003_TIE_NEU_XX",)
    found = {one.kind: one for one in split.findings}
    assert found["emobox-shared-speakers"].examples == (
        "fold 1 (1 of 1 test speakers)", "fold 10 (1 of 1 test speakers)",
    )  # fmt: skip
    assert found["emobox-unmatched"].count == found["emobox-left-out"].count == 1
    positions = split.folds[2].positions(rows["utterance"])
    assert {part: at.tolist() for part, at in positions.items()} == {
        "train": [1], "valid": [2], "test": [0],
    }  # fmt: skip
    assert positions["test"].dtype == np.int64


@pytest.mark.parametrize(
    ("corpus", "name", "wavs", "ids"),
    [
        # As EmoBox writes the paths, and as the readers name the same files.
        ("iemocap", "iemocap", ["downloads/iemocap/Session1/sentences/wav/Ses01F_impro04/"
                                "Ses01F_impro04_F000.wav"], ["Ses01F_impro04_F000"]),
        ("savee", "savee", ["downloads/savee/JE_su07.wav", "downloads/savee/DC_su07.wav"],
         ["JE/su07", "DC/su07"]),
        ("savee", "savee", ["downloads/savee/JE_su07.wav"], ["JE_su07"]),
        ("emovo", "emovo", ["downloads/emovo/f2/tri-f2-n4.wav"], ["tri-f2-n4"]),
        ("turev-db", "turevdb", ["downloads/turevdb/Sound Source/Angry/1358_kz_saf.wav"],
         ["1358_kz_saf"]),
        ("msp-podcast", "msppodcast", ["downloads/msppodcast/Audio/MSP-PODCAST_2347_0389.wav"],
         ["MSP-PODCAST_2347_0389"]),
        ("ravdess", "ravdess", ["downloads/ravdess/audio/Audio_Speech_Actors_01-24/Actor_21/"
                                "03-01-08-01-01-01-21.wav"], ["03-01-08-01-01-01-21"]),
        ("enterface", "enterface", ["downloads/enterface/subject 1/anger/sentence 1/s1_an_1.avi"],
         ["s1_an_1"]),
    ],
)  # fmt: skip
def test_entries_match_by_the_end_of_their_path(tmp_path, corpus, name, wavs, ids):
    lists(tmp_path, name, 1, train=wavs[1:], test=wavs[:1])
    split = read_emobox(tmp_path, corpus, table(*ids))
    assert split.folds[0].test == (ids[0],)
    assert split.folds[0].train == tuple(ids[1:])
    assert split.findings == []


def test_older_lists_beside_the_folds_are_passed_over(tmp_path):
    wavs = ["downloads/emodb/wav/15b02Tc.wav", "downloads/emodb/wav/03a01Fa.wav"]
    lists(tmp_path, "emodb", 1, train=wavs[1:], test=wavs[:1])
    write(tmp_path / "data/emodb/fold_1/emodb_test_fold1.jsonl", '{"audio": "x", "label": "sad"}')
    write(tmp_path / "data/emodb/emodb.jsonl", *map(line, wavs))
    split = read_emobox(tmp_path, "emodb", table("03a01Fa", "15b02Tc"))
    assert split.folds == (EmoBoxFold("1", ("03a01Fa",), (), ("15b02Tc",)),)


def test_the_name_may_differ(tmp_path):
    lists(tmp_path, "cremad", 1, train=[], test=crema("1001_IEO_ANG_LO"))
    rows = table("1001_IEO_ANG_LO")
    assert read_emobox(tmp_path, "mine", rows, name="cremad").folds[0].test == ("1001_IEO_ANG_LO",)
    with pytest.raises(CorpusError, match=r"no folder data/crema/fold_1; did you mean 'cremad'\?"):
        read_emobox(tmp_path, "crema", rows)
    with pytest.raises(CorpusError, match=r"nowhere: no folder data/crema/fold_1 Clone https"):
        read_emobox(tmp_path / "nowhere", "crema", rows)


def test_lists_that_are_missing_are_named(tmp_path):
    lists(tmp_path, "cremad", 1, train=crema("1001_IEO_ANG_LO"))
    lists(tmp_path, "cremad", 2, test=crema("1001_IEO_ANG_LO"))
    match = r"2 lists are not there: fold_1/cremad_test_fold_1.jsonl, fold_2/cremad_train_fold_2"
    with pytest.raises(CorpusError, match=match):
        read_emobox(tmp_path, "cremad", table("1001_IEO_ANG_LO"))


def test_lists_that_contradict_the_table_or_each_other(tmp_path):
    one, two = crema("1001_IEO_ANG_LO", "1002_IEO_ANG_LO")
    lists(tmp_path, "cremad", 1, train=[one], test=[one])
    with pytest.raises(CorpusError, match="fold 1: 1 utterance is in two lists: 1001_IEO_ANG_LO"):
        read_emobox(tmp_path, "cremad", table("1001_IEO_ANG_LO"))
    lists(tmp_path, "cremad", 1, train=[one, two], test=[])
    with pytest.raises(
        CorpusError, match=r"1 utterance stands for two entries: IEO_ANG_LO \(x-1001-IEO-ANG-LO"
    ):
        read_emobox(tmp_path, "cremad", table("IEO_ANG_LO"))
    lists(tmp_path, "cremad", 1, train=[one, one], test=[two])
    split = read_emobox(tmp_path, "cremad", table("1001_IEO_ANG_LO", "1002_IEO_ANG_LO"))
    assert split.folds[0].train == ("1001_IEO_ANG_LO",)  # the same entry twice is one
    lists(tmp_path, "cremad", 1, train=[one, two], test=[])
    with pytest.raises(CorpusError, match=r"none of 2 entries is an utterance of cremad: x-1001"):
        read_emobox(tmp_path, "cremad", table("other"))
    with pytest.raises(CorpusError, match="utterances a_b and A-B differ in separators or case"):
        read_emobox(tmp_path, "cremad", table("a_b", "A-B"))


def test_lines_that_are_no_entries(tmp_path):
    lists(tmp_path, "cremad", 1, train=[], test=[])
    path = tmp_path / "data/cremad/fold_1/cremad_test_fold_1.jsonl"
    write(path, "version https://git-lfs.github.com/spec/v1", '{"key": "a"}', "[1]", "")
    with pytest.raises(CorpusError, match=r"3 lines are no JSON object with a wav: line 1 \('vers"):
        read_emobox(tmp_path, "cremad", table("a"))
