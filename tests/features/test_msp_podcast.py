"""MSP-Podcast on generated trees, with lines as the published label files have them."""

import json
import math

import pytest

from features.common.errors import CorpusError
from features.corpora import read_corpus
from tests.features.test_corpora import kinds, row, touch, write

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
LINES = [
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
    "MSP-PODCAST_0002_0009.wav,A,5.777778,3.555556,3.777778,039,Female,Train",
    "MSP-PODCAST_0003_0001_0001.wav,X,4.125,4.75,4.0,Unknown,Unknown,Development",
    "MSP-PODCAST_0004_0013.wav,C,3.0,3.75,3.166667,Unknown,Male,Test2",
]
NAMES = [line.partition(",")[0] for line in LINES]


def podcast_tree(root, file="Labels/labels_consensus.csv", audio="Audios"):
    write(root / file, HEADER, *LINES)
    return touch(root, *(f"{audio}/{name}" for name in NAMES))


@pytest.mark.parametrize("level", ["", "MSP-PODCAST-Publish-1.8"])
@pytest.mark.parametrize(
    ("file", "audio"),
    [("Labels/labels_consensus.csv", "Audios"), ("Labels/labels_concensus.csv", "Audio")],
)
def test_msp_podcast(tmp_path, level, file, audio):
    podcast_tree(tmp_path / level, file, audio)
    table = read_corpus("msp-podcast", tmp_path)
    frame = table.rows
    assert frame["utterance"].tolist() == [name.removesuffix(".wav") for name in NAMES[:3]]
    assert frame["path"].tolist()[0] == f"{level}/{audio}/{NAMES[0]}".lstrip("/")
    assert frame["emotion"].tolist() == ["neutral", "angry", ""]
    assert frame["arousal"].tolist() == [2.2, 5.777778, 4.125]
    assert frame["valence"].tolist() == [4.0, 3.555556, 4.75]
    assert frame["dominance"].tolist() == [2.6, 3.777778, 4.0]
    assert frame["speaker"].tolist() == ["30", "039", ""]
    assert frame["gender"].tolist() == ["male", "female", ""]
    assert frame["session"].tolist() == ["0001", "0002", "0003"]
    assert frame["partition"].tolist() == ["test", "train", "devel"]
    found = kinds(table)
    assert found["partition-left-out"].text.startswith("1 row of Test2 is left out")
    assert found["no-agreement"].examples == (NAMES[2],)
    assert set(found) == {"partition-left-out", "no-agreement", "tree-unverified", "class-rare"}


def test_the_json_of_the_labels_reads_alike(tmp_path):
    csv = read_corpus("msp-podcast", podcast_tree(tmp_path / "csv"))
    keys = HEADER.split(",")[1:]
    labels = {}
    for line in LINES:
        name, *values = line.split(",")
        labels[name] = dict(zip(keys, values, strict=True))
        labels[name] |= {key: float(labels[name][key]) for key in ("EmoAct", "EmoVal", "EmoDom")}
    labels[NAMES[0]]["SpkrID"] = 30
    podcast_tree(tmp_path / "json")
    (tmp_path / "json/Labels/labels_consensus.csv").unlink()
    write(tmp_path / "json/Labels/labels_consensus.json", json.dumps(labels))
    other = read_corpus("msp-podcast", tmp_path / "json")
    assert other.rows.equals(csv.rows)


def test_the_option_test_chooses_the_test_sets(tmp_path):
    podcast_tree(tmp_path)
    table = read_corpus("msp-podcast", tmp_path, options={"test": ["Test1", "Test2"]})
    assert table.rows["partition"].tolist() == ["test", "train", "devel", "test"]
    assert row(table, "MSP-PODCAST_0004_0013")["emotion"] == "contempt"
    table = read_corpus("msp-podcast", tmp_path, options={"test": "test2"})
    assert "MSP-PODCAST_0001_0008" not in table.rows["utterance"].tolist()
    assert kinds(table)["partition-left-out"].examples == (NAMES[0],)
    with pytest.raises(CorpusError, match="option test = 3: expected a list"):
        read_corpus("msp-podcast", tmp_path, options={"test": 3})


def test_partitions_name_files_whose_labels_are_kept_back(tmp_path):
    podcast_tree(tmp_path)
    touch(tmp_path, "Audios/MSP-PODCAST_test3_0001.wav")
    write(tmp_path / "Partitions.txt", *(f"Train; {name}" for name in NAMES[1:2]),
          "Test3; MSP-PODCAST_test3_0001.wav")  # fmt: skip
    table = read_corpus("msp-podcast", tmp_path)
    assert len(table.rows) == 3
    assert "audio-without-labels" not in kinds(table)
    table = read_corpus("msp-podcast", tmp_path, options={"test": ["Test3"]})
    masked = row(table, "MSP-PODCAST_test3_0001")
    assert masked["partition"] == "test"
    assert masked["emotion"] == masked["speaker"] == masked["session"] == ""
    assert math.isnan(masked["arousal"])
    write(tmp_path / "Partitions.txt", "Train MSP-PODCAST_0001_0008.wav")
    with pytest.raises(CorpusError, match=r"Partitions.txt: 1 line is not '<set>; <file>'"):
        read_corpus("msp-podcast", tmp_path)


def test_sides_that_differ_are_named(tmp_path):
    podcast_tree(tmp_path)
    (tmp_path / "Audios" / NAMES[1]).unlink()
    touch(tmp_path, "Audios/MSP-PODCAST_9999_0001.wav", f"Audios/._{NAMES[0]}")
    table = read_corpus("msp-podcast", tmp_path)
    assert row(table, "MSP-PODCAST_0002_0009")["path"] == f"Audios/{NAMES[1]}"
    assert kinds(table)["labels-without-audio"].examples == (NAMES[1],)
    assert kinds(table)["audio-without-labels"].examples == ("MSP-PODCAST_9999_0001.wav",)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ([HEADER.replace("EmoVal", "Val"), *LINES], r"no column EmoVal; it has"),
        ([HEADER, LINES[0].replace("2.2", "two")], "emoact of MSP-PODCAST_0001_0008.wav is 'two'"),
        ([HEADER, LINES[0], LINES[0]], "1 file stands more than once: MSP-PODCAST_0001_0008.wav"),
        ([HEADER, LINES[3]], r"no row is of a partition that is asked for; there are Test2 \(1\)"),
    ],
)
def test_labels_that_are_wrong(tmp_path, lines, match):
    podcast_tree(tmp_path)
    write(tmp_path / "Labels/labels_consensus.csv", *lines)
    with pytest.raises(CorpusError, match=match):
        read_corpus("msp-podcast", tmp_path)


def test_labels_that_are_not_there_or_no_object(tmp_path):
    with pytest.raises(CorpusError, match=r"no labels_consensus.csv or labels_concensus.csv or"):
        read_corpus("msp-podcast", tmp_path)
    write(tmp_path / "Labels/labels_consensus.json", "[1, 2]")
    with pytest.raises(CorpusError, match="not readable as labels, an object of file name"):
        read_corpus("msp-podcast", tmp_path)
