"""`python -m features`: status, table, verify, on a corpus that was extracted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

from features.utterances import read_table


def test_status(extracted: Path, features, tmp_path: Path) -> None:
    code, text = features("status", str(extracted))
    lines = [line.split() for line in text.splitlines()]
    assert code == 0
    assert lines[1][:6] == ["tones", "mfcc", "complete", "12", "of", "12"]
    assert lines[2][:6] == ["tones", "log-mel", "missing", "0", "of", "12"]
    path = tmp_path / "stores/tones/mfcc.h5"
    path.write_bytes(path.read_bytes()[:1000])
    text = features("status", str(extracted))[1]
    assert "damaged: see verify" in text
    assert text.splitlines()[-1] == "2 stores: 1 damaged, 1 missing; 1.0 kB"


def test_verify_checksums_and_audio(extracted: Path, features, tmp_path: Path) -> None:
    assert features("verify") == (0, f"{tmp_path}/stores/tones/mfcc.h5: ok\n")
    audio = ["verify", "--audio", "--data", str(tmp_path / "data"), "--recipe", str(extracted)]
    ok = f"{tmp_path}/stores/tones/mfcc.h5: ok, 12 audio files hashed\n"
    assert features(*audio) == (0, ok)
    changed = tmp_path / "data/tones/u03.wav"
    samples, rate = sf.read(changed)
    sf.write(changed, samples[::-1], rate)
    (tmp_path / "data/tones/u04.wav").unlink()
    code, text = features(*audio)
    assert code == 1
    assert "u03.wav: its audio has changed; run make extract" in text
    assert "u04.wav: No such file" in text
    assert features("verify")[0] == 0  # the store itself is as it was written


def test_verify_names_damage(extracted: Path, features, tmp_path: Path) -> None:
    path = tmp_path / "stores/tones/mfcc.h5"
    raw = bytearray(path.read_bytes())
    import h5py

    with h5py.File(path, "r") as file:
        raw[file["mean"].id.get_offset()] ^= 1
    path.write_bytes(raw)
    code, text = features("verify")
    assert code == 1
    assert "damaged: /mean, layer 0, utterances u00, u01, u02 and 9 more" in text
    assert "make extract MODEL=mfcc VERIFY=1 computes the damaged blocks again" in text
    assert "1 of 1 file is not as it should be" in text
    assert "delete" not in text
    assert "utterances u00, u01, u02, u03, u04, u05, u06," in features("verify", "--names")[1]
    path.write_bytes(raw[:1000])
    text = features("verify")[1]
    assert "truncated" in text
    assert "make extract MODEL=mfcc FORCE=1 replaces it" in text


def test_verify_of_parts_leaves_them_to_the_extraction(
    extracted: Path, features, tmp_path: Path
) -> None:
    folder = tmp_path / "stores/tones"
    (folder / "log-mel.parts").mkdir()
    part = folder / "log-mel.parts/part-0000-000000.h5"
    part.write_bytes((folder / "mfcc.h5").read_bytes())
    assert f"{part}: ok" in features("verify", "--model", "log-mel")[1]
    part.write_bytes(part.read_bytes()[:1000])
    text = features("verify", "--model", "log-mel")[1]
    assert "make extract MODEL=log-mel goes on, and computes it again" in text


def test_verify_of_a_name_that_no_store_has(extracted: Path, features) -> None:
    code, text = features("verify", "--model", "mffc")
    assert (code, "no store of model 'mffc'; there are mfcc; did you mean 'mfcc'?" in text) == (
        1,
        True,
    )
    code, text = features("verify", "--corpus", "tones,bells")
    assert (code, "no store of corpus 'bells'; there are tones" in text) == (1, True)


def test_verify_without_stores(features) -> None:
    code, text = features("verify", stores="nowhere")
    assert (code, "no store there" in text) == (1, True)


def test_table_prints_writes_and_keeps_what_was_measured(
    extracted: Path, features, tmp_path: Path
) -> None:
    before = read_table(tmp_path / "stores/tones").rows
    manifest = tmp_path / "data/tones/manifest.csv"
    manifest.write_text(manifest.read_text().replace("u00.wav,s0,low", "u00.wav,s0,high"))
    code, text = features("table", "tones", "--root", str(manifest.parent))
    assert code == 0
    assert "12 utterances, 4 speakers, 8 s of audio" in text
    assert "emotion: high 7, low 5" in text
    assert "changed: " in text
    assert "u00" in text
    after = read_table(tmp_path / "stores/tones").rows
    np.testing.assert_array_equal(after["seconds"], before["seconds"])
    assert after["audio_hash"].tolist() == before["audio_hash"].tolist()
    assert after["emotion"].tolist()[0] == "high"


def test_table_of_a_corpus_that_is_not_there(features, tmp_path: Path) -> None:
    code, text = features("table", "emodb", "--data", str(tmp_path))
    assert code == 1
    assert f"{tmp_path}/emodb: no such folder" in text


def test_a_table_is_not_replaced_by_one_of_another_corpus(features, tmp_path: Path) -> None:
    there, other = tmp_path / "data/emodb/wav", tmp_path / "data/other"
    for folder, name in ((there, "03a01Fa.wav"), (other, "hello.wav")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"RIFF")
    assert features("table", "emodb", "--root", str(there.parent))[0] == 0
    before = (tmp_path / "stores/emodb/utterances.csv").read_bytes()
    code, text = features("table", "emodb", "--root", str(other))
    assert (code, "other: not the corpus emodb: no utterance of it is there" in text) == (1, True)
    assert (tmp_path / "stores/emodb/utterances.csv").read_bytes() == before


def test_table_names_what_is_no_audio_and_leaves_out_targets_without_a_value(
    features, tmp_path: Path
) -> None:
    folder = tmp_path / "emodb"
    folder.mkdir()
    (folder / "03a01Fa.wav").write_bytes(b"RIFF")
    (folder / "08a01Fa.wav").touch()
    (folder / "09a01Fa.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1")
    code, text = features("table", "emodb", "--root", str(folder))
    assert code == 0
    assert "odd: 1 audio file is empty: 08a01Fa.wav" in text
    assert "has not fetched (git lfs pull does): 09a01Fa.wav" in text
    assert "natural" not in text


def test_table_of_a_root_that_is_no_folder_and_of_a_name_that_is_none(
    features, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, text = features("table", "emodb", "--root", str(tmp_path / "file"))
    assert (code, "file: is a file; --root names the folder of the corpus" in text) == (1, True)
    code, text = features("table", "emodb", "--root", str(tmp_path / "none"))
    assert (code, "no such folder" in text, "DATA=" in text) == (1, True, False)
    text = features("table", "emodbb", "--root", str(tmp_path))[1]
    assert "manifest.csv: cannot be read" in text
    assert "emodbb has no reader of its own; did you mean 'emodb'" in text


def test_table_names_a_target_that_does_not_vary(make_corpus, features, tmp_path: Path) -> None:
    make_corpus(4)
    manifest = tmp_path / "data/tones/manifest.csv"
    header, *rows = manifest.read_text().splitlines()

    def told(*flat: str) -> str:
        lines = [
            f"{row},{i / 4},{one}" for i, (row, one) in enumerate(zip(rows, flat, strict=True))
        ]
        manifest.write_text("\n".join([f"{header},va,flat", *lines]) + "\n")
        return features("table", "tones", "--root", str(manifest.parent))[1]

    text = told("0.5", "0.5", "", "0.5")
    assert "odd: flat is 0.5 in all 3 rows with a truth: nothing can be learned of it\n" in text
    assert "odd: va is" not in text
    assert read_table(tmp_path / "stores/tones").findings == []  # printed alone
    assert "odd: flat is" not in told("0.5", "0.25", "", "0.5")
