"""What is found in audio, what is looked up instead, and by what."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from features import audio_memory as module
from features.audio.decode import DECODER
from features.audio_memory import FILES
from features.stores.key import audio_hash, file_digest
from features.survey import Survey, forget, keep_measured, pointed_elsewhere, survey
from features.utterances import Table, read_table, write_table
from tests.models import synthetic

RATE = 8_000


def wave(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise on the grid of 16 bits, so that every lossless container keeps it."""
    noise = np.random.default_rng(seed).integers(-9_000, 9_000, round(seconds * RATE))
    return (noise / 32_768).astype(np.float32)


def write(path: Path, samples: np.ndarray, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE, **more)


def table_of(*rows: tuple[str, float, float]) -> Table:
    frame = synthetic.rows(len(rows), "c")
    paths, starts, ends = zip(*rows, strict=True)
    frame = frame.assign(path=list(paths), start=list(starts), end=list(ends))
    return Table(frame, {}, (), [], {"key": "c"})


WHOLE = (math.nan, math.nan)


def look(tmp_path: Path, *rows: tuple[str, float, float], root: str = "audio") -> Survey:
    return survey(table_of(*rows), tmp_path / root, tmp_path / "stores")


def samples_hash(samples: np.ndarray) -> str:
    text = f"{RATE}\n".encode()
    return hashlib.blake2b(text + samples.astype("<f4").tobytes(), digest_size=16).hexdigest()


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch):
    """Fail where a file is opened again."""

    def forbid() -> None:
        def no(path: object, *_: object) -> None:
            raise AssertionError(f"{path} was read again")

        monkeypatch.setattr(module, "listen", no)
        monkeypatch.setattr(module, "file_digest", no)

    return forbid


def test_hashes_are_of_the_file_of_the_row_and_of_the_recording(tmp_path: Path) -> None:
    samples = wave()
    write(tmp_path / "audio/a.wav", samples)
    write(tmp_path / "audio/b.flac", samples)
    write(tmp_path / "audio/stereo.wav", np.stack([samples, samples], axis=1))
    rows = [("a.wav", *WHOLE), ("a.wav", 0.25, 0.5), ("b.flac", *WHOLE), ("stereo.wav", *WHOLE)]
    seen = look(tmp_path, *rows)
    frame = seen.rows
    files = [(tmp_path / "audio" / row[0]).read_bytes() for row in rows]
    plain = [hashlib.blake2b(one, digest_size=16).hexdigest() for one in files]
    assert frame["file_hash"].tolist() == plain
    segment = hashlib.blake2b(files[0] + b"#0.25-0.5", digest_size=16).hexdigest()
    assert frame["audio_hash"].tolist() == [plain[0], segment, *plain[2:]]
    whole = samples_hash(samples)
    assert frame["samples_hash"].tolist() == [whole, samples_hash(samples[2000:4000]), whole, whole]
    assert frame["recording_hash"].tolist() == [whole] * 4
    assert frame["seconds"].tolist() == [1.0, 0.25, 1.0, 1.0]
    assert read_table(tmp_path / "stores").rows["samples_hash"].tolist() == list(
        frame["samples_hash"]
    )
    assert (seen.failures, seen.findings) == ({}, [])


def test_what_is_unchanged_is_not_read_again(tmp_path: Path, nobody_listens) -> None:
    write(tmp_path / "audio/a.wav", wave())
    rows = [("a.wav", *WHOLE), ("a.wav", 0.0, 0.5)]
    first = look(tmp_path, *rows).rows
    nobody_listens()
    assert look(tmp_path, *rows).rows.equals(first)
    assert look(tmp_path, rows[1]).rows["samples_hash"].iloc[0] == first["samples_hash"].iloc[1]
    with pytest.raises(AssertionError, match="was read again"):
        look(tmp_path, ("a.wav", 0.0, 0.25))


MOVES = {
    "another segment": [("a.wav", 0.0, 0.5), ("a.wav", 0.5, 1.0)],
    "another end": [("a.wav", 0.0, 0.5), ("a.wav", 0.0, 0.51)],
    "a segment of what was whole": [("a.wav", *WHOLE), ("a.wav", 0.5, 1.0)],
    "the whole of what was a segment": [("a.wav", 0.5, 1.0), ("a.wav", *WHOLE)],
    "another file": [("a.wav", *WHOLE), ("b.wav", *WHOLE)],
    "another file of the same name elsewhere": [("a.wav", *WHOLE), ("../other/a.wav", *WHOLE)],
}


@pytest.mark.parametrize("move", MOVES)
def test_a_row_that_moves_is_looked_at_again(tmp_path: Path, move: str) -> None:
    for i, name in enumerate(("audio/a", "audio/b", "other/a")):
        write(tmp_path / f"{name}.wav", wave(seed=i))
        os.utime(tmp_path / f"{name}.wav", (1.6e9, 1.6e9))
    before, after = MOVES[move]
    look(tmp_path, before)
    found = look(tmp_path, after).rows.iloc[0]
    fresh = survey(table_of(after), tmp_path / "audio", tmp_path / "fresh").rows.iloc[0]
    assert found["audio_hash"] == fresh["audio_hash"]
    assert found["samples_hash"] == fresh["samples_hash"]
    assert found["seconds"] == fresh["seconds"]


def test_another_folder_of_the_same_names_sizes_and_times(tmp_path: Path) -> None:
    for i, name in enumerate(("audio", "denoised")):
        write(tmp_path / name / "a.wav", wave(seed=i))
        os.utime(tmp_path / name / "a.wav", (1.6e9, 1.6e9))
    one = look(tmp_path, ("a.wav", *WHOLE)).rows
    other = look(tmp_path, ("a.wav", *WHOLE), root="denoised").rows
    digest = file_digest(tmp_path / "denoised/a.wav").hexdigest()
    assert one["file_hash"].iloc[0] != other["file_hash"].iloc[0] == digest


def test_a_file_that_was_written_over_in_place_with_its_time_put_back(tmp_path: Path) -> None:
    path = tmp_path / "audio/a.wav"
    write(path, wave())
    os.utime(path, (1.6e9, 1.6e9))
    look(tmp_path, ("a.wav", *WHOLE))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, (1.6e9, 1.6e9))
    found = look(tmp_path, ("a.wav", *WHOLE)).rows
    assert found["file_hash"].iloc[0] == hashlib.blake2b(data, digest_size=16).hexdigest()


def test_a_file_that_moved_is_hashed_and_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "audio/a.wav", wave())
    first = look(tmp_path, ("a.wav", *WHOLE)).rows
    (tmp_path / "audio/a.wav").rename(tmp_path / "audio/b.wav")
    monkeypatch.setattr(module, "listen", None)
    found = look(tmp_path, ("b.wav", *WHOLE)).rows
    assert found["samples_hash"].equals(first["samples_hash"])
    assert found["audio_hash"].equals(first["audio_hash"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"decoder": 0, "files": {}}',
        '{"decoder": NOW, "files": {"NAME": [[1], "a", "b", 1]}}',
        '{"decoder": NOW, "files": {"NAME": "x"}}',
        '{"decoder": NOW, "files": []}',
    ],
)
def test_a_memory_that_is_damaged_or_of_another_decoder_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "audio/a.wav", wave())
    first = look(tmp_path, ("a.wav", *WHOLE)).rows
    path = tmp_path / "stores" / FILES
    sound = path.read_text()
    text = text.replace("NOW", str(DECODER))
    path.write_text(text.replace("NAME", str(tmp_path / "audio/a.wav")))
    assert look(tmp_path, ("a.wav", *WHOLE)).rows.equals(first)
    assert path.read_text() == sound


def test_a_time_beyond_what_64_bits_hold_stops_nothing(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"audio/{name}.wav", wave())
    os.utime(tmp_path / "audio/b.wav", ns=(10**19, 10**19))  # the year 2286
    if os.stat(tmp_path / "audio/b.wav").st_mtime_ns < 10**19:
        pytest.skip("the file system has no such time")
    seen = look(tmp_path, ("a.wav", *WHOLE), ("b.wav", *WHOLE))
    assert seen.failures == {}
    assert seen.rows["mtime_ns"].tolist()[1] == 2**63 - 1


@pytest.mark.parametrize("name", ["gone.wav", "a\0b.wav", "x" * 300 + ".wav", "folder", "text.wav"])
def test_a_bad_file_stops_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path / "audio/a.wav", wave())
    (tmp_path / "audio/folder").mkdir()
    (tmp_path / "audio/text.wav").write_text("no audio")
    seen = look(tmp_path, ("a.wav", *WHOLE), (name, *WHOLE))
    assert list(seen.failures) == ["u001"]
    assert seen.rows["audio_hash"].tolist()[1] == ""
    assert seen.rows["seconds"].tolist()[0] == 1.0


def test_a_segment_that_leaves_its_file_fails_alone(tmp_path: Path) -> None:
    write(tmp_path / "audio/a.wav", wave())
    seen = look(tmp_path, ("a.wav", 0.0, 0.5), ("a.wav", 0.5, 2.0))
    assert "is not inside the file's 1 s" in seen.failures["u001"]
    assert seen.rows["seconds"].tolist()[0] == 0.5


def test_silent_rows_are_named(tmp_path: Path) -> None:
    samples = wave()
    write(tmp_path / "audio/zero.wav", 0 * samples)
    write(tmp_path / "audio/cancel.wav", np.stack([samples, -samples], axis=1))
    write(tmp_path / "audio/half.wav", np.concatenate([0 * samples, samples]))
    rows = [
        *(("zero.wav", *WHOLE), ("cancel.wav", *WHOLE)),
        *(("half.wav", 0.0, 0.5), ("half.wav", 0.5, 1.5), ("half.wav", *WHOLE)),
    ]
    for _ in range(2):  # looked at, and looked up
        seen = look(tmp_path, *rows)
        assert seen.rows["samples_hash"].eq("silent").tolist() == [True, True, True, False, False]
        assert [(one.kind, one.count) for one in seen.findings] == [("silent-audio", 3)]
        assert seen.findings[0].text.endswith("stay in the table: u000, u001, u002")
    assert [one.kind for one in read_table(tmp_path / "stores").findings] == ["silent-audio"]


def test_a_file_that_the_first_decoder_cut_short_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "audio/chain.ogg"
    write(path, wave())
    once = path.read_bytes()
    path.write_bytes(once + once)  # a chained stream: the header speaks of its first half
    found = look(tmp_path, ("chain.ogg", *WHOLE), ("chain.ogg", 0.5, 1.5)).rows
    wanted = [once + once + more for more in (b"@decoder2", b"#0.5-1.5@decoder2")]
    hashes = [hashlib.blake2b(one, digest_size=16).hexdigest() for one in wanted]
    assert found["audio_hash"].tolist() == hashes
    assert found["seconds"].tolist() == [2.0, 1.0]
    digest = file_digest(path)
    assert audio_hash(digest, 0.5, 1.5, decoder=2) == hashes[1]


def test_rows_whose_audio_is_not_here_keep_what_was_measured(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"audio/{name}.wav", wave())
    rows = [("a.wav", *WHOLE), ("b.wav", 0.0, 0.5), ("b.wav", 0.5, 1.0)]
    before = Table(look(tmp_path, *rows).rows.drop(columns=["size", "mtime_ns"]), {}, ())
    (tmp_path / "audio/b.wav").unlink()
    now = table_of(*rows[:2], ("b.wav", 0.25, 1.0))
    survey(now, tmp_path / "audio", tmp_path / "stores", keep=before)
    assert now.rows["audio_hash"].tolist() == [*before.rows["audio_hash"][:2], ""]
    assert now.rows["seconds"].tolist()[:2] == [1.0, 0.5]
    lone = table_of(*rows)
    keep_measured(lone, before, [0, 1, 2])
    assert lone.rows.equals(before.rows)


def test_a_row_whose_audio_is_here_and_bad_does_not_keep_what_was_measured(tmp_path: Path) -> None:
    write(tmp_path / "audio/a.wav", wave())
    seen = look(tmp_path, ("a.wav", *WHOLE)).rows
    before = Table(seen.drop(columns=["size", "mtime_ns"]), {}, ())
    (tmp_path / "audio/a.wav").write_text("no audio any more")
    now = table_of(("a.wav", *WHOLE))
    survey(now, tmp_path / "audio", tmp_path / "stores", keep=before)
    assert now.rows["audio_hash"].tolist() == [""]


def test_what_is_forgotten_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "audio/a.wav", wave())
    look(tmp_path, ("a.wav", *WHOLE))
    path = tmp_path / "stores" / FILES
    about = json.loads(path.read_text())
    (entry,) = about["files"].values()
    right, entry[1] = entry[1], "0" * 32  # as if the bytes had changed on the disk alone
    path.write_text(json.dumps(about))
    table = read_table(tmp_path / "stores")
    table.rows = table.rows.assign(file_hash="0" * 32)
    write_table(tmp_path / "stores", table)
    assert look(tmp_path, ("a.wav", *WHOLE)).rows["file_hash"].tolist() == ["0" * 32]
    forget(tmp_path / "stores", [tmp_path / "audio/b.wav"])
    assert look(tmp_path, ("a.wav", *WHOLE)).rows["file_hash"].tolist() == ["0" * 32]
    forget(tmp_path / "stores", [tmp_path / "audio/a.wav"])
    assert look(tmp_path, ("a.wav", *WHOLE)).rows["file_hash"].tolist() == [right]


def test_rows_that_name_another_recording_are_told_from_files_that_moved(tmp_path: Path) -> None:
    for i, name in enumerate("abc"):
        write(tmp_path / f"audio/{name}.wav", wave(seed=i))
    rows = [("a.wav", *WHOLE), ("b.wav", 0.0, 0.5), ("c.wav", *WHOLE)]
    look(tmp_path, *rows)
    old = read_table(tmp_path / "stores")
    (tmp_path / "audio/moved").mkdir()
    write(tmp_path / "audio/moved/b.wav", wave(seed=1))
    now = [("c.wav", *WHOLE), ("moved/b.wav", 0.0, 0.5), ("gone.wav", *WHOLE)]
    assert pointed_elsewhere(old, table_of(*now), tmp_path / "audio") == ["u000"]
    assert pointed_elsewhere(old, table_of(*rows), tmp_path / "audio") == []
