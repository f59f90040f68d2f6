"""Readers on generated trees under the real names; audio files are empty, since none is opened."""

import math
import os
import unicodedata
from pathlib import Path

import pytest

from features.common.errors import CorpusError
from features.corpora import CORPORA, _registry, read_corpus
from features.corpora.compare import TARGETS
from features.utterances import read_table, table_hash, write_table

DATA = Path(__file__).resolve().parents[3] / "shared/data"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


def kinds(table):
    return {one.kind: one for one in table.findings if one.kind != "counts"}


def row(table, utterance):
    return table.rows.set_index("utterance").loc[utterance]


def test_registry_refuses_a_second_corpus_of_one_key():
    with pytest.raises(ValueError, match="two corpora have the key 'emodb'"):
        _registry([CORPORA["emodb"], CORPORA["emodb"]])


@pytest.mark.parametrize("record", CORPORA.values(), ids=CORPORA)
def test_records_are_sound(record):
    for name in record.expected:
        column, _, value = name.partition("=")
        assert value in ["", *record.labels.get(column, ["train", "devel", "test"])]
    assert record.tree in ("verified", "unverified")
    sums = [n for name, n in record.expected.items() if "=" in name]
    assert sum(sums) == record.expected.get("utterances", 0)
    for mapping in record.label_maps.values():
        assert set(mapping) <= set(record.labels["emotion"])


def test_unknown_corpus_names_the_nearest(tmp_path):
    with pytest.raises(CorpusError, match="no corpus is called 'emo-db'; did you mean 'emodb'"):
        read_corpus("emo-db", tmp_path)


def test_missing_root_says_where_to_get_it(tmp_path):
    with pytest.raises(CorpusError) as error:
        read_corpus("hume-prosody", tmp_path / "hume-prosody")
    for part in ("no such folder", "compare.openaudio.eu", "licence", "lab/{train,devel,test}.csv",
                 f"put it at {tmp_path}", "DATA="):  # fmt: skip
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_option_names_the_nearest(tmp_path):
    with pytest.raises(CorpusError, match="no option 'lables'; did you mean 'labels'"):
        read_corpus("manifest", tmp_path, options={"lables": []})
    with pytest.raises(CorpusError, match=r"emodb has no option 'file' \(it takes none\)"):
        read_corpus("emodb", tmp_path, options={"file": "x"})


# ComParE layout


def shares(*values):
    return ",".join(str(value) for value in (*values, *[0.0] * (9 - len(values))))


HEADER = ",".join(TARGETS)


def compare_tree(root, header=HEADER):
    write(root / "lab/train.csv", f"File_name,{header}", f"0001.wav,{shares(1.0, 1 / 3)}")
    write(root / "lab/devel.csv", f"filename,{header}", f"0002.wav,{shares(0.25, 1.0)}")
    write(root / "lab/test.csv", f"filename,{header}", "NA.wav," + "?," * 8 + "nan")
    return touch(root, "wav/0001.wav", "wav/0002.wav", "wav/NA.wav")


@pytest.mark.parametrize("level", ["", "data"])
def test_compare_layout(tmp_path, level):
    compare_tree(tmp_path / level)
    table = read_corpus("hume-prosody", tmp_path)
    assert table.rows["utterance"].tolist() == ["0001", "0002", "NA"]
    assert table.rows["partition"].tolist() == ["train", "devel", "test"]
    assert table.rows["path"].tolist()[2] == f"{level}/wav/NA.wav".lstrip("/")
    assert row(table, "0001")["Boredom"] == 1 / 3
    assert row(table, "NA")[list(TARGETS)].isna().all()
    assert table.rows["speaker"].tolist() == [""] * 3
    assert kinds(table) == {}
    counts = table.findings[-1]
    assert counts.kind == "counts"
    assert "utterances 3 (published: 51881)" in counts.text
    assert "partition=train 1 (published: 30133)" in counts.text


def test_compare_counts_can_be_strict(tmp_path):
    with pytest.raises(CorpusError, match="utterances 3 .*published: 51881.*strict_counts"):
        read_corpus("hume-prosody", compare_tree(tmp_path), strict_counts=True)


def test_compare_targets_are_found_by_name_in_any_case_and_order(tmp_path):
    compare_tree(tmp_path, header=",".join(reversed(TARGETS)).lower())
    assert row(read_corpus("hume-prosody", tmp_path), "0002")["Tiredness"] == 0.25


def test_compare_truth_of_the_test_rows(tmp_path):
    compare_tree(tmp_path)
    write(tmp_path / "lab/test.unmasked.csv", f"f,{HEADER}", f"NA.wav,{shares(0.5, 1)}")
    table = read_corpus("hume-prosody", tmp_path)
    assert row(table, "NA")["Anger"] == 0.5
    assert kinds(table)["unmasked"].count == 1
    write(tmp_path / "lab/test.unmasked.csv", f"f,{HEADER}", f"3.wav,{shares(0.5, 1)}")
    with pytest.raises(CorpusError, match=r"differ in 2 files: 3.wav, NA.wav"):
        read_corpus("hume-prosody", tmp_path)


def test_compare_sides_that_differ_are_named(tmp_path):
    compare_tree(tmp_path)
    (tmp_path / "wav/0002.wav").unlink()
    touch(tmp_path, "wav/spare.wav", "wav/._0001.wav", "wav/.DS_Store", "wav/notes.txt")
    table = read_corpus("hume-prosody", tmp_path)
    assert len(table.rows) == 3
    assert row(table, "0002")["path"] == "wav/0002.wav"
    assert kinds(table)["labels-without-audio"].examples == ("0002.wav",)
    assert kinds(table)["audio-without-labels"].examples == ("spare.wav",)


def test_compare_finds_the_audio_of_the_raw_layout_below_another_folder(tmp_path):
    compare_tree(tmp_path / "ComParE2023/data")
    (tmp_path / "ComParE2023/data/raw").mkdir()
    (tmp_path / "ComParE2023/data/wav").rename(tmp_path / "ComParE2023/data/raw/wav")
    table = read_corpus("hume-prosody", tmp_path)
    assert row(table, "0002")["path"] == "ComParE2023/data/raw/wav/0002.wav"
    assert kinds(table) == {}


def test_compare_missing_partition_is_named(tmp_path):
    compare_tree(tmp_path)
    (tmp_path / "lab/devel.csv").unlink()
    assert kinds(read_corpus("hume-prosody", tmp_path))["partition-missing"].examples == (
        "devel.csv",
    )


def test_compare_file_in_two_partitions(tmp_path):
    compare_tree(tmp_path)
    write(tmp_path / "lab/devel.csv", f"f,{HEADER}", f"0001.wav,{shares(1)}")
    with pytest.raises(CorpusError, match=r"0001.wav in train.csv and devel.csv"):
        read_corpus("hume-prosody", tmp_path)


def test_compare_missing_targets_and_broken_values(tmp_path):
    compare_tree(tmp_path)
    write(tmp_path / "lab/devel.csv", "f," + ",".join(TARGETS[2:]), "2.wav" + ",0" * 7)
    with pytest.raises(CorpusError, match=r"devel.csv: no column Anger, Boredom; it has f, Calm"):
        read_corpus("hume-prosody", tmp_path)
    write(tmp_path / "lab/devel.csv", f"f,{HEADER}", f"2.wav,x,{shares(1)[:-4]}")
    with pytest.raises(
        CorpusError, match=r"devel.csv: 1 value is no number .*Anger of 2.wav is 'x'"
    ):
        read_corpus("hume-prosody", tmp_path)
    write(tmp_path / "lab/devel.csv", f"f,{HEADER}", "2.wav,1,0")
    with pytest.raises(CorpusError, match=r"the header has 10 fields: line 2 has 3"):
        read_corpus("hume-prosody", tmp_path)


def test_compare_shares_outside_range_are_masked_and_named(tmp_path):
    compare_tree(tmp_path)
    write(tmp_path / "lab/devel.csv", f"f,{HEADER}", f"0002.wav,{shares(-0.1, 1.5, 1)}")
    table = read_corpus("hume-prosody", tmp_path)
    found = kinds(table)["shares-outside-range"]
    assert found.examples == ("0002 (Anger -0.1)", "0002 (Boredom 1.5)")
    assert math.isnan(row(table, "0002")["Anger"])
    assert row(table, "0002")["Calmness"] == 1.0


def test_compare_speakers(tmp_path):
    compare_tree(tmp_path)
    write(tmp_path / "lab/speakers.csv", "filename,speaker,gender,language",
          "0001.wav,03,female,en", "NA.wav,NA,male,es")  # fmt: skip
    table = read_corpus("demo", tmp_path)
    assert table.rows["speaker"].tolist() == ["03", "", "NA"]
    assert row(table, "NA")["language"] == "es"
    assert kinds(table)["speakers-missing"].examples == ("0002.wav",)


def test_compare_without_labels_names_the_layout(tmp_path):
    with pytest.raises(CorpusError, match=r"no folder lab/.*lab/\{train,devel,test\}.csv"):
        read_corpus("hume-prosody", tmp_path)


# EmoDB


def emodb_tree(root, folder="wav", encoding="latin-1"):
    touch(root, *(f"{folder}/{name}.wav" for name in ("03a01Fa", "08b10Wc", "16a02Tb")))
    space = "\u00a0" * 3
    write(root / "erkennung.txt", "Nr.\tSatz\terkannt\tnatuerlich",
          f"1{space}\t03a01Fa.wav\t90,00{space}\t75,00{space}",
          f"2{space}\t08b10Wc.wav\t97,5{space}\t100,00{space}",
          f"3{space}\t03a01Ab.wav\t65,00{space}\t35,00{space}", encoding=encoding)  # fmt: skip
    return root


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("folder", ["wav", "wav_corpus", "."])
def test_emodb(tmp_path, folder, encoding):
    table = read_corpus("emodb", emodb_tree(tmp_path, folder, encoding))
    assert table.rows["utterance"].tolist() == ["03a01Fa", "08b10Wc", "16a02Tb"]
    assert table.rows["speaker"].tolist() == ["03", "08", "16"]
    assert table.rows["gender"].tolist() == ["male", "female", "female"]
    assert table.rows["sentence"].tolist() == ["a01", "b10", "a02"]
    assert table.rows["emotion"].tolist() == ["happiness", "anger", "sadness"]
    assert table.rows["recognised"].tolist()[:2] == [0.9, 0.975]
    assert table.rows["natural"].tolist()[:2] == [0.75, 1.0]
    assert math.isnan(table.rows["natural"].tolist()[2])
    assert kinds(table)["labels-without-audio"].examples == ("03a01Ab",)
    assert kinds(table)["audio-without-labels"].examples == ("16a02Tb",)


def test_emodb_without_scores(tmp_path):
    emodb_tree(tmp_path)
    (tmp_path / "erkennung.txt").unlink()
    table = read_corpus("emodb", tmp_path)
    assert table.rows["recognised"].isna().all()
    assert kinds(table)["labels-missing"].count == 3


def test_emodb_odd_names_are_left_out(tmp_path):
    touch(emodb_tree(tmp_path), "wav/03a01Xa.wav", "wav/readme.wav", "wav/._03a01Fa.wav")
    table = read_corpus("emodb", tmp_path)
    assert len(table.rows) == 3
    assert kinds(table)["names"].examples == ("wav/03a01Xa.wav", "wav/readme.wav")


def test_emodb_bad_scores(tmp_path):
    emodb_tree(tmp_path)
    write(tmp_path / "erkennung.txt", "Nr\tSatz\ta\tb", "1\t03a01Fa.wav\tviel\t1,0")
    with pytest.raises(CorpusError, match=r"1 row holds no percentages: 03a01Fa \('viel', '1,0'\)"):
        read_corpus("emodb", tmp_path)
    write(tmp_path / "erkennung.txt", "Nr\tSatz\ta\tb", "1\t03a01Fa.wav\t120,0\t1,0")
    table = read_corpus("emodb", tmp_path)
    assert kinds(table)["shares-outside-range"].examples == ("03a01Fa (recognised 1.2)",)
    write(tmp_path / "erkennung.txt", "Nr\tSatz\ta\tb", *["1\t03a01Fa.wav\t1\t1"] * 2)
    with pytest.raises(CorpusError, match="stand more than once: 03a01Fa"):
        read_corpus("emodb", tmp_path)


def test_emodb_without_audio(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio file below it.*wav/\*.wav"):
        read_corpus("emodb", tmp_path)


@pytest.mark.parametrize("name", [name for name in CORPORA if name not in ("demo", "audformat")])
def test_a_folder_of_another_corpus_is_refused(tmp_path, name):
    touch(tmp_path, "a/angry.wav", "b/1_angry_02.flac")
    with pytest.raises(CorpusError, match=str(tmp_path)):
        read_corpus(name, tmp_path)


@pytest.mark.parametrize("name", ["emodb", "crema-d", "turev-db"])
def test_files_of_which_none_is_an_utterance_are_named(tmp_path, name):
    touch(tmp_path, "x/hello.wav", "y/there.wav")
    found = rf"not the corpus {name}: .*2 audio files .*: x/hello.wav, y/there.wav; {name} is exp"
    with pytest.raises(CorpusError, match=found):
        read_corpus(name, tmp_path)


def test_files_of_which_none_has_a_label_are_named(tmp_path):
    touch(tmp_path, "AudioWAV/1001_IEO_ANG_HI.wav", "AudioWAV/1002_IEO_SAD_HI.wav")
    with pytest.raises(CorpusError, match=r"not the corpus turev-db: .*1001_IEO_ANG_HI \(audiowav"):
        read_corpus("turev-db", tmp_path)


def test_a_manifest_without_rows_is_refused(tmp_path):
    write(tmp_path / "manifest.csv", "path,mood")
    with pytest.raises(CorpusError, match="not the corpus manifest: no utterance"):
        read_corpus("manifest", tmp_path)


def test_speakers_that_lack_and_that_nobody_knows_are_named(tmp_path):
    touch(tmp_path, *(f"wav/{one:02}a01Fa.wav" for one in (3, 8, 9, 10, 11, 12, 13, 14, 15, 99)))
    (counts,) = [one for one in read_corpus("emodb", tmp_path).findings if one.kind == "counts"]
    assert "speakers 10 (published: 10; missing: 16; unknown: 99)" in counts.text


def test_one_id_for_two_files_names_both(tmp_path):
    touch(emodb_tree(tmp_path), "wav/03a01Fa.flac")
    with pytest.raises(CorpusError, match=r"03a01Fa \(wav/03a01Fa.flac and wav/03a01Fa.wav\)"):
        read_corpus("emodb", tmp_path)


def test_ids_are_paths_where_stems_repeat(tmp_path):
    touch(tmp_path, "wav/a/03a01Fa.wav", "wav/b/03a01Fa.wav")
    table = read_corpus("emodb", tmp_path)
    assert table.rows["utterance"].tolist() == ["a/03a01Fa", "b/03a01Fa"]


@pytest.mark.skipif(not (DATA / "emodb").is_dir(), reason="needs ../shared/data/emodb")
def test_emodb_as_published(tmp_path):
    table = read_corpus("emodb", DATA / "emodb", strict_counts=True)
    assert kinds(table)["labels-without-audio"].count == 816 - 535
    assert list(kinds(table)) == ["labels-without-audio"]
    assert table.rows["recognised"].between(0, 1).all()
    assert table.rows.groupby("speaker")["gender"].first().value_counts()["male"] == 5
    disgust = table.rows[table.rows["emotion"] == "disgust"]
    assert "08" not in disgust["speaker"].tolist()
    write_table(tmp_path, table)
    assert table_hash(read_table(tmp_path)) == table_hash(table)


# TurEV-DB


def test_turev_db(tmp_path):
    touch(
        tmp_path,
        "Sound Source/Angry/1157_kz_acik.flac",
        "Sound Source/Sad/7895_hl_uzum.wav",
        "Sound Source/Happy/1234_sk_soba.flac",
        "Sound Source/Calm/soba.flac",
        "Sound Source/Bored/1234_bo_soba.flac",
        "Sound Source/Sad/._7895_hl_uzum.wav",
    )
    table = read_corpus("turev-db", tmp_path)
    assert table.rows["utterance"].tolist() == [
        "1157_kz_acik", "1234_bo_soba", "1234_sk_soba", "7895_hl_uzum",
    ]  # fmt: skip
    assert table.rows["emotion"].tolist() == ["angry", "", "happy", "sad"]
    assert table.rows["speaker"].tolist() == ["1157", "1234", "1234", "7895"]
    assert table.rows["sentence"].tolist() == ["acik", "soba", "soba", "uzum"]
    assert set(table.rows["language"]) == {"tr"}
    assert kinds(table)["labels-disagree"].examples == ("Sound Source/Happy/1234_sk_soba.flac",)
    assert kinds(table)["names"].examples == ("Sound Source/Calm/soba.flac",)
    assert kinds(table)["labels-outside-list"].examples == ("1234_bo_soba (bored)",)


@pytest.mark.skipif(not (DATA / "turev-db").is_dir(), reason="needs ../shared/data/turev-db")
def test_turev_db_as_published():
    table = read_corpus("turev-db", DATA / "turev-db", strict_counts=True)
    assert table.findings == []
    low = table.rows[table.rows["speaker"] == "1157"]
    assert set(low["emotion"]) == {"angry", "sad"}


# A manifest


def test_manifest(tmp_path):
    touch(tmp_path, "a/x.wav", "a/y.wav")
    write(tmp_path / "manifest.csv", "path,start,end,speaker,mood,arousal,count",
          "a/x.wav,0,1.5,03,calm,0.1,3", "a/x.wav,1.5,2.25,NA,NA,,4", "a/y.wav,,,,tense,?,",
          "a/z.wav,2,,,,1e-3,", encoding="utf-8-sig")  # fmt: skip
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert table.rows["utterance"].tolist() == ["x#0-1500", "x#1500-2250", "y", "z#2000-"]
    assert set(table.rows["corpus"]) == {"mine"}
    assert table.labels == {"mood": ("NA", "calm", "tense")}
    assert table.targets == ("arousal", "count")
    assert table.rows["speaker"].tolist() == ["03", "NA", "", ""]
    assert table.rows["end"].tolist()[:2] == [1.5, 2.25]
    assert table.rows["arousal"].isna().tolist() == [False, True, True, False]
    assert kinds(table)["labels-without-audio"].examples == ("a/z.wav",)
    assert table.corpus["reader"] == "manifest"


def test_manifest_options(tmp_path):
    outside = touch(tmp_path / "elsewhere", "x.wav") / "x.wav"
    write(tmp_path / "c/list.csv", "utterance,path,mood,grade,word",
          f"u1,{outside},tense,1,no", f"u2,{outside},odd,2,yes")  # fmt: skip
    options = {"file": "list.csv", "labels": {"mood": ["tense", "calm"], "grade": ["2", "1"]}}
    table = read_corpus("mine", tmp_path / "c", reader="manifest", options=options)
    assert table.labels == {"mood": ("tense", "calm"), "grade": ("2", "1"), "word": ("no", "yes")}
    assert table.rows["utterance"].tolist() == ["u1", "u2"]
    assert table.rows["path"].tolist() == [str(outside)] * 2
    assert table.rows["mood"].tolist() == ["tense", ""]
    assert kinds(table)["labels-outside-list"].examples == ("u2 (odd)",)
    options = {"file": "list.csv", "labels": ["grade"]}
    table = read_corpus("mine", tmp_path / "c", reader="manifest", options=options)
    assert table.labels["grade"] == ("1", "2")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"labels": ["mod"]}, "'mod' is none; did you mean 'mood'"),
        ({"targets": ["x"]}, "'x' is none"),
        ({"labels": ["speaker"]}, "'speaker' is none"),
        ({"labels": ["mood"], "targets": ["mood"]}, "'mood' is both a label set and a target"),
        ({"labels": "mood"}, "expected a list of columns"),
        ({"labels": {"mood": []}}, "expected a list of columns"),
        ({"file": 3}, "option file = 3: expected str"),
        ({"file": "none.csv"}, "none.csv: cannot be read"),
        ({"targets": ["mood"]}, "row 1: mood is 'calm', no number"),
    ],
)
def test_manifest_options_that_are_wrong(tmp_path, options, match):
    write(tmp_path / "manifest.csv", "path,speaker,mood", "x.wav,1,calm")
    with pytest.raises(CorpusError, match=match):
        read_corpus("mine", tmp_path, reader="manifest", options=options)


def test_manifest_faults_are_listed_together(tmp_path):
    write(tmp_path / "manifest.csv", "path,start,end,arousal", "x.wav,2,1,", ",0,1,", "y.wav,-1,2,",
          "z.wav,1,1,", "ok.wav,0,1,0.5", "v.wav,1_0,20,inf", "w.wav,nan,1,2")  # fmt: skip
    with pytest.raises(CorpusError) as error:
        read_corpus("mine", tmp_path, reader="manifest", options={"targets": ["arousal"]})
    for part in ("6 rows have faults", "row 1: end 1 is not after start 2", "row 2: no path",
                 "row 3: start -1, end 2: negative", "row 4: end 1 is not after start 1",
                 "row 6: start is '1_0', no number, arousal is 'inf', no number",
                 "row 7: start is 'nan', no number"):  # fmt: skip
        assert part in str(error.value)
    write(tmp_path / "manifest.csv", "path,start,end", *["x.wav,2,1"] * 12)
    with pytest.raises(CorpusError, match=r"12 rows.*row 10: end 1 [^:]* and 2 more"):
        read_corpus("mine", tmp_path, reader="manifest")


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["file,mood", "x.wav,calm"], "no column 'path'; it has file, mood"),
        (["path,mood,mood", "x.wav,a,b"], "the column mood stands twice"),
        (["path", "x.wav", "x.wav"], r"more than once: x \(x.wav and x.wav\)"),
        (["path,mood", "x.wav"], "the header has 2 fields: line 2 has 1"),
        ([], "empty; a header line"),
        (["path,mood", 'x.wav,"calm'], "line 2: unexpected end of data"),
    ],
)
def test_manifest_files_that_are_wrong(tmp_path, lines, match):
    write(tmp_path / "manifest.csv", *lines)
    with pytest.raises(CorpusError, match=match):
        read_corpus("mine", tmp_path, reader="manifest")


def test_manifest_columns_of_the_table_are_not_read(tmp_path):
    touch(tmp_path, "x.wav")
    write(tmp_path / "manifest.csv", "path,seconds,corpus", "x.wav,3,other")
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert table.rows["corpus"].tolist() == ["mine"]
    assert table.rows["seconds"].isna().all()
    assert kinds(table)["columns-ignored"].examples == ("corpus", "seconds")


def test_ids_are_composed_and_fields_keep_to_one_line(tmp_path):
    name = unicodedata.normalize("NFD", "über")
    touch(tmp_path, f"{name}.wav")
    write(tmp_path / "manifest.csv", "path,sentence", f'{name}.wav,"one\r\ntwo"')
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert table.rows["utterance"].tolist() == ["über"]
    assert table.rows["path"].tolist() == [f"{name}.wav"]
    assert table.rows["sentence"].tolist() == ["one two"]
    assert "labels-without-audio" not in kinds(table)
    write_table(tmp_path / "out", table)
    assert table_hash(read_table(tmp_path / "out")) == table_hash(table)


def test_rows_are_sorted_by_key_whatever_the_order_of_the_file(tmp_path):
    lines = [f"{n}.wav,{n}" for n in (10, 9, 1)]
    write(tmp_path / "manifest.csv", "path,arousal", *lines)
    one = read_corpus("mine", tmp_path, reader="manifest")
    write(tmp_path / "manifest.csv", "path,arousal", *reversed(lines))
    assert one.rows["utterance"].tolist() == ["1", "10", "9"]
    assert table_hash(read_corpus("mine", tmp_path, reader="manifest")) == table_hash(one)


@pytest.mark.parametrize("values", [("1", "calm"), ("calm", "1"), ("calm", "calm")])
def test_a_column_with_one_word_is_a_label_set_whatever_its_order(values):
    from features.corpora.manifest import _all_numbers

    assert not _all_numbers(list(values))
    assert _all_numbers(["1", "", "0.5"])
    assert not _all_numbers(["", "?"])


def test_audio_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / os.fsdecode(b"wav/03a01F\xe4.wav")).write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"1 audio file has a name that is no UTF-8: .*\\udce4.*rename"
    ):
        read_corpus("emodb", tmp_path)


def test_a_manifest_in_utf_16_or_of_a_name_that_no_file_has(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes("path\na.wav\n".encode("utf-16"))
    with pytest.raises(CorpusError, match=r"manifest.csv: holds NUL bytes, as UTF-16 does"):
        read_corpus("own", tmp_path, reader="manifest")
    for name in ("a\0b", "x" * 300):
        with pytest.raises(CorpusError, match="cannot be read: (embedded null|File name too long)"):
            read_corpus("own", tmp_path, reader="manifest", options={"file": name})
        with pytest.raises(CorpusError, match="no such folder"):
            read_corpus("own", tmp_path / name, reader="manifest")


def test_audio_of_a_name_that_no_file_has_is_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(f"path\n{'x' * 300}.wav\n")
    table = read_corpus("own", tmp_path, reader="manifest")
    assert [one.kind for one in table.findings] == ["labels-without-audio"]
