"""Files whose headers say too little, too much, or nothing: decoded to their end, or refused."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from features.audio.decode import Clip, decode, listen, seconds
from features.common.errors import AudioError
from tests.features.sounds import (
    APE,
    ID3V1,
    ID3V2,
    RATE_HZ,
    WHOLE_TAGS,
    flac_of_length,
    mp3_frames,
    mp3_without_count,
    noise,
    ogg_pages,
    pcm,
    put,
    wav,
    written,
)

WHOLE = (math.nan, math.nan)
A, B = noise(8_000)[:, 0], noise(6_000, seed=1)[:, 0]
AB = np.concatenate([A, B])


def heard(tmp_path: Path, data: bytes) -> tuple[np.ndarray, int]:
    """Samples and version of the decoding; `seconds`, `decode` and `listen` have to agree."""
    path = tmp_path / "a.audio"
    path.write_bytes(data)
    mono, rate = decode(Clip("a", str(path)))
    whole = listen(str(path), [WHOLE, (0.1, 0.2)])
    assert whole.n_frames == len(mono) == round(rate * seconds(Clip("a", str(path))))
    assert [one.seconds for one in whole.spans] == [len(mono) / rate, 0.1]  # type: ignore[union-attr]
    assert whole.spans[0].samples_hash == whole.recording_hash  # type: ignore[union-attr]
    part, _ = decode(Clip("a", str(path), 0.1, 0.2))
    np.testing.assert_allclose(part, mono[rate // 10 : rate // 5], atol=2e-7)
    return mono, whole.decoder


def listen_to_all(path: Path) -> None:
    (span,) = listen(str(path), [WHOLE]).spans
    if isinstance(span, AudioError):
        raise span


def refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "a.audio"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=why):
        decode(Clip("a", str(path)))
    with pytest.raises(AudioError, match=why):
        listen_to_all(path)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (0x7FFF_F000, 2),  # sox
        (0x7FFF_FFDB, 2),
        (0x7FFF_FFFE, 2),
        (0x7FFF_FFFF, 1),
        (0x8000_0000, 1),  # arecord
        (0xFFFF_FFFF, 1),  # ffmpeg
        (0, 2),  # never closed
    ],
)
def test_wav_files_that_were_written_to_a_pipe(tmp_path: Path, data: int, version: int) -> None:
    samples, decoder = heard(tmp_path, wav(pcm(A), data, riff=min(data + 36, 2**32 - 1)))
    np.testing.assert_array_equal(samples, A)
    assert decoder == version
    joined, decoder = heard(tmp_path, wav(pcm(A), data) + wav(pcm(B), data))
    np.testing.assert_array_equal(joined, AB)
    assert decoder == 2


def test_a_wav_file_that_is_empty_stays_it(tmp_path: Path) -> None:
    refused(tmp_path, wav(b"", tail=b"LIST\x04\0\0\0INFO"), "empty: no samples")


def of_unknown_length(kind: str) -> bytes:
    """A file with the length that programs write to a pipe."""
    if kind in ("aiff", "aiff-0"):  # sox, ffmpeg
        data = written(A, "AIFF", "PCM_16")
        at = data.index(b"SSND") + 4
        return put(data, at, 0 if kind == "aiff-0" else 0x7F00_0008, 4, "big")
    if kind == "aifc-ulaw":
        data = written(A, "AIFF", "ULAW")
        return put(data, data.index(b"SSND") + 4, 0x7F00_0008, 4, "big")
    if kind == "wav-ulaw":
        data = written(A, "WAV", "ULAW")
        return put(data, data.index(b"data") + 4, 0x7FFF_F000, 4)
    if kind == "wav-gsm":
        data = written(A, "WAV", "GSM610")
        return put(data, data.index(b"data") + 4, 0x7FFF_F000, 4)
    if kind in ("au", "au-0"):
        return put(written(A, "AU", "PCM_16"), 8, 0 if kind == "au-0" else 0xFFFF_FFFF, 4, "big")
    if kind == "au-alaw":
        return put(written(A, "AU", "ALAW"), 8, 0x7FFF_F000, 4, "big")
    if kind in ("w64", "w64-0"):
        data = written(A, "W64", "PCM_16")
        return put(data, data.index(b"data") + 16, 24 if kind == "w64-0" else 2**64 - 1, 8)
    if kind in ("rf64", "rf64-0"):
        data = written(A, "RF64", "PCM_16")
        at = data.index(b"ds64") + 16
        return put(data, at, 0 if kind == "rf64-0" else 2**64 - 1, 8)
    assert kind == "caf"
    data = written(A, "CAF", "PCM_16")
    return put(data, data.index(b"data") + 4, 2**64 - 1, 8, "big")


@pytest.mark.parametrize(
    "kind",
    ["aiff", "aiff-0", "aifc-ulaw", "wav-ulaw", "wav-gsm", "au", "au-0", "au-alaw", "w64", "w64-0"]
    + ["rf64", "rf64-0", "caf"],
)
def test_other_files_that_were_written_to_a_pipe(tmp_path: Path, kind: str) -> None:
    whole = {
        "aifc-ulaw": ("AIFF", "ULAW"),
        "wav-ulaw": ("WAV", "ULAW"),
        "wav-gsm": ("WAV", "GSM610"),
        "au-alaw": ("AU", "ALAW"),
    }.get(kind, ("WAV", "PCM_16"))
    path = tmp_path / "right"
    path.write_bytes(written(A, *whole))
    samples, _ = heard(tmp_path, of_unknown_length(kind))
    np.testing.assert_array_equal(samples, decode(Clip("a", str(path)))[0])


@pytest.mark.parametrize(
    ("promised", "why"),
    [
        (16_001, "cut short: its header promises 16001 bytes of samples, 16000 are there"),
        (10**6, "cut short: its header promises 1000000 bytes of samples"),
        (0x9000_0000, "cut short: its header promises 2415919104 bytes of samples"),
        (8_000, r"promises 8000 bytes of samples, and behind them are 8000 that are no chunk"),
    ],
)
def test_a_wav_file_with_another_length(tmp_path: Path, promised: int, why: str) -> None:
    refused(tmp_path, wav(pcm(A), promised), why)


@pytest.mark.parametrize("kind", ["RF64", "W64", "CAF", "AU", "AIFF", "NIST", "SVX"])
def test_files_of_other_kinds_that_were_cut(tmp_path: Path, kind: str) -> None:
    refused(tmp_path, written(A, kind, "PCM_16")[:-100], "cut short: its header promises 16000")


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST\x04\0\0\0INFO",
        b"LIST\x40\0\0\0INFO",  # a tag that was cut
        b"id3 \x1a\0\0\0" + ID3V2,
        ID3V1,
        ID3V2,
        bytes(5_000),
        b"\0\0\0",
        b"bext\x04\0\0\0abcdPAD \x02\0\0\0xy",
    ],
)
def test_what_may_stand_behind_the_samples(tmp_path: Path, tail: bytes) -> None:
    samples, decoder = heard(tmp_path, wav(pcm(A), tail=tail))
    np.testing.assert_array_equal(samples, A)
    assert decoder == 1


@pytest.mark.parametrize("kind", ["W64", "SVX", "RF64", "CAF", "AIFF", "AU"])
@pytest.mark.parametrize("tail", [ID3V1, ID3V2, bytes(5_000)])
def test_what_stands_behind_is_no_sound(tmp_path: Path, kind: str, tail: bytes) -> None:
    samples, _ = heard(tmp_path, written(A, kind, "PCM_16") + tail)
    np.testing.assert_array_equal(samples, A)


@pytest.mark.parametrize("kind", ["WAV", "RF64"])
@pytest.mark.parametrize("other", [b"RIFF\x08\0\0\0AVI abcd", b"FORM\x08\0\0\0ILBMabcd"])
def test_a_file_of_another_kind_is_no_chunk(tmp_path: Path, kind: str, other: bytes) -> None:
    refused(tmp_path, written(A, kind, "PCM_16") + other, "behind them are 16 that are no chunk")


@pytest.mark.parametrize("filling", [b"", b"\0"])
def test_samples_of_an_odd_number_of_bytes(tmp_path: Path, filling: bytes) -> None:
    tail = filling + b"LIST\x04\0\0\0INFO"
    samples, decoder = heard(tmp_path, wav(pcm(A)[:-1], tail=tail))
    np.testing.assert_array_equal(samples, A[:-1])
    assert decoder == 1


@pytest.mark.parametrize("riff", [0, 100, 10**6, 2**32 - 1])
def test_a_wrong_size_of_the_file_is_no_fault(tmp_path: Path, riff: int) -> None:
    samples, decoder = heard(tmp_path, wav(pcm(A), riff=riff))
    np.testing.assert_array_equal(samples, A)
    assert decoder == 1


def test_two_chunks_of_samples(tmp_path: Path) -> None:
    tail = b"data" + struct.pack("<I", 2 * len(B)) + pcm(B)
    refused(tmp_path, wav(pcm(A), tail=tail), "two chunks of samples: cut")


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16")]
    + [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", None)]
    + [("OGG", "VORBIS"), ("OGG", "OPUS")],
)
def test_files_joined_in_one(tmp_path: Path, form: str, subtype: str | None) -> None:
    one, two = written(A, form, subtype), written(B, form, subtype)
    alone = [heard(tmp_path, data)[0] for data in (one, two)]
    assert [len(samples) for samples in alone] == [8_000, 6_000]
    samples, decoder = heard(tmp_path, one + two)
    np.testing.assert_array_equal(samples, np.concatenate(alone))
    assert decoder == 2
    thrice, _ = heard(tmp_path, one * 3)  # links of one serial number, headers of one length
    np.testing.assert_array_equal(thrice, np.concatenate([alone[0]] * 3))
    stereo = np.stack([B, -B / 2], axis=1)
    mixed, _ = heard(tmp_path, one + written(stereo, form, subtype))
    assert len(mixed) == 14_000
    slow = written(B, form, subtype, 8_000)
    refused(tmp_path, one + slow, "recordings of 16000 and 8000 Hz joined in one")
    if form not in ("OGG", "MP3"):
        refused(tmp_path, one + two[:-50], "cut short|cannot be decoded")


@pytest.mark.parametrize(
    ("form", "subtype", "n_frames"),
    # Their blocks are filled up: 320 samples of GSM in WAV, 160 else and of NMS, 120 of G.72x.
    [("WAV", "GSM610", 8_000), ("AIFF", "GSM610", 8_000), ("W64", "GSM610", 8_000)]
    + [("AU", "G721_32", 8_040), ("AU", "G723_24", 8_040), ("WAV", "NMS_ADPCM_16", 8_000)]
    + [("WAV", "G721_32", 8_040), ("AU", "G723_40", 8_040), ("WAV", "NMS_ADPCM_32", 8_000)],
)
def test_formats_that_cannot_be_sought_in(
    tmp_path: Path, form: str, subtype: str, n_frames: int
) -> None:
    data = written(A, form, subtype)
    (tmp_path / "whole").write_bytes(data)
    with sf.SoundFile(tmp_path / "whole") as file:
        known = file.read(file.frames, dtype="float32")
    samples, decoder = heard(tmp_path, data)
    assert (len(samples), decoder) == (n_frames, 2)
    np.testing.assert_array_equal(samples, known[:n_frames])


def test_flac_files_of_unknown_or_wrong_length(tmp_path: Path) -> None:
    right = written(A, "FLAC", "PCM_16")
    for length in (0, 100, 4_096, 7_999):
        for data in (flac_of_length(right, length), flac_of_length(right, length) + ID3V1):
            samples, decoder = heard(tmp_path, data)
            np.testing.assert_array_equal(samples, A)
            assert decoder == 2
    joined, _ = heard(tmp_path, flac_of_length(right, 0) + ID3V1 + ID3V2 + flac_of_length(right, 9))
    np.testing.assert_array_equal(joined, np.concatenate([A, A]))
    refused(
        tmp_path, flac_of_length(right, 8_001), "promises 8001 samples a channel, 8000 are there"
    )
    for cut in (1, 100, 3_000):
        refused(tmp_path, flac_of_length(right, 0)[:-cut], "cut short: its last frame is not there")
        refused(tmp_path, flac_of_length(right, 100)[:-cut], "cut short: its last frame is not the")
        refused(tmp_path, right[:-cut], "cut short|cannot be decoded")


def test_sound_of_another_kind_behind_flac(tmp_path: Path) -> None:
    noisy = np.random.default_rng(5).integers(0, 256, 5_000, dtype=np.uint8).tobytes()
    for sound in (A, np.repeat(AB, 9)):
        data = written(sound, "FLAC")
        other = [written(B, kind) for kind in ("MP3", "WAV", "OGG", "AIFF")]
        for one in (*other, noisy, b"\1" * 20, b"\1", wav(bytes(200_000))):
            why = (
                rf"{len(one):,} bytes from byte {len(data):,} on, behind the last frame, are no tag"
            )
            for tail in (b"", ID3V1, b"x" * 8 + APE):
                refused(tmp_path, data + one + tail, why)
            refused(tmp_path, data + one + data, why)
        for tail in (bytes(5_000), bytes(3), ID3V1, ID3V2, ID3V1 + ID3V1, bytes(900_000)):
            samples, decoder = heard(tmp_path, data + tail)
            np.testing.assert_array_equal(samples, sound)
            assert decoder == 1
        refused(tmp_path, data[: len(data) // 2] + other[1], "cannot be decoded|cut short")


def test_flac_frames_that_are_missing_or_there_twice(tmp_path: Path) -> None:
    data = written(np.repeat(AB, 3), "FLAC")  # 42,000 samples, 4,096 a frame
    # A head of a fixed block size whose number is one byte.
    start = data.index(b"\xff\xf8", 42)
    heads = [data.index(data[start : start + 4] + bytes([i]), start) for i in range(10)]
    assert heads == sorted(heads)
    a, b, c = heads[4:7]
    for length in (42_000, 0):
        missing = flac_of_length(data[:a] + data[b:], length)
        refused(tmp_path, missing, "damaged: the frame behind its first 16,384 samples is missing")
        begun_late = flac_of_length(data[: heads[0]] + data[heads[1] :], length)
        refused(tmp_path, begun_late, "damaged: the frame behind its first 0 samples is missing")
        twice = flac_of_length(data[:b] + data[a:], length)
        refused(tmp_path, twice, f"damaged: its frame at byte {b:,} is there twice")
        swapped = flac_of_length(data[:a] + data[b:c] + data[a:b] + data[c:], length)
        refused(
            tmp_path, swapped, f"damaged: its frame at byte {a:,} is there twice, or out of place"
        )


@pytest.mark.parametrize("kind", ["zeros", "stereo", "24", "ends-in-zeros"])
def test_the_last_frame_of_a_flac_file_is_found(tmp_path: Path, kind: str) -> None:
    samples = {
        "zeros": np.zeros((20_000, 1)),
        "stereo": noise(9_000, 2),
        "24": noise(9_000, 2) / 7,
        "ends-in-zeros": np.concatenate([noise(5_000), np.zeros((5_000, 1))]),
    }[kind]
    right = written(samples, "FLAC", "PCM_24" if kind == "24" else "PCM_16")
    expected, decoder = heard(tmp_path, right)
    assert (len(expected), decoder) == (len(samples), 1)
    found, decoder = heard(tmp_path, flac_of_length(right, 0))
    np.testing.assert_array_equal(found, expected)
    assert decoder == 2


@pytest.mark.parametrize("before", [b"", ID3V2, b"junk" * 100, bytes(3_000)])
@pytest.mark.parametrize("behind", [b"", ID3V1, b"x" * 8 + APE, ID3V1 + ID3V1, b"junk" * 10])
def test_an_mp3_without_a_count(tmp_path: Path, before: bytes, behind: bytes) -> None:
    # Loud after quiet: the first frame's length says nothing of the others.
    sound = np.concatenate([A * 0.001, np.repeat(B, 2) * 3])
    data, n_frames = mp3_without_count(sound)
    counted, _ = heard(tmp_path, written(sound, "MP3"))
    samples, _ = heard(tmp_path, before + data + behind)
    assert len(samples) == n_frames
    # The encoder's delay, which the count tells, is 576 samples, the decoder's 529.
    np.testing.assert_allclose(samples[1_105:][: len(counted)], counted, atol=1e-5)


def test_an_mp3_without_a_count_twice(tmp_path: Path) -> None:
    data, n_frames = mp3_without_count(A)
    assert len(heard(tmp_path, data * 2)[0]) == 2 * n_frames
    samples, _ = heard(tmp_path, data + ID3V1 + ID3V2 + written(B, "MP3"))
    assert len(samples) == n_frames + len(B)


def test_sound_of_another_kind_around_an_mp3(tmp_path: Path) -> None:
    uncounted, _ = mp3_without_count(A)
    noisy = np.random.default_rng(5).integers(0, 256, 5_000, dtype=np.uint8).tobytes()
    for data in (written(A, "MP3"), uncounted):
        for other in (written(B, "FLAC"), written(AB, "WAV"), written(B, "OGG"), noisy):
            why = f"{len(other):,} bytes from byte {len(data):,} on are neither MPEG frames nor a"
            for tail in (b"", bytes(99), ID3V1, b"x" * 8 + APE + ID3V1):
                refused(tmp_path, data + other + tail, why if not tail else "neither MPEG frames")
            refused(tmp_path, data + ID3V1 + other + data, "neither MPEG frames|between its MPEG")
        refused(tmp_path, b"junk" * 300 + data, "1,200 bytes from byte 0 on are|not recognised")
    # So long that the MP3 is not half of the file.
    refused(tmp_path, uncounted + wav(bytes(10) + pcm(np.repeat(AB, 9))), "neither MPEG frames")


def test_an_mp3_with_tags_zeros_and_a_piece_of_a_frame(tmp_path: Path) -> None:
    data = written(A, "MP3")
    known, _ = heard(tmp_path, data)
    longest = max(map(len, mp3_frames(data)))
    big = b"ID3\x03\0\0\0\0\x7f\0" + b"picture" * 2_322 + b"\1\2"  # 127 * 128 bytes
    for behind in (bytes(5_000), b"\1" * longest, big + bytes(9), b"\1" * 9 + big, bytes(9) + big):
        samples, decoder = heard(tmp_path, big + data + behind)
        np.testing.assert_array_equal(samples, known)
        assert decoder == 1
        samples, _ = heard(tmp_path, big + bytes(3_000) + data + behind)
        np.testing.assert_array_equal(samples, known)
    twice, _ = heard(tmp_path, data + b"\1" * 20 + big + data)
    np.testing.assert_array_equal(twice, np.concatenate([known, known]))


def test_an_mp3_that_was_cut(tmp_path: Path) -> None:
    data, n_frames = mp3_without_count(A)
    refused(tmp_path, data[:-10], "cut short: its last MPEG frame promises")
    frames = mp3_frames(data)
    refused(tmp_path, b"".join(frames[:-1]) + frames[-1][:3], "cut short: its last MPEG frame")
    counted = mp3_frames(written(A, "MP3"))
    n = len(counted) - 1
    refused(tmp_path, b"".join(counted[:-1]), f"promises {n} MPEG frames, {n - 1} are there")
    middle = b"".join(frames[:5]) + b"\1" * 300 + b"".join(frames[5:])
    refused(tmp_path, middle, "damaged: 300 bytes between its MPEG frames are none")
    assert len(heard(tmp_path, b"".join(frames[:-1]))[0]) == n_frames - 576


def test_an_mp3_that_counts_too_few_frames(tmp_path: Path) -> None:
    counted = written(A, "MP3")
    at = max(counted.find(b"Xing"), counted.find(b"Info"))
    n = int.from_bytes(counted[at + 8 : at + 12])
    samples, decoder = heard(tmp_path, put(counted, at + 8, n - 3, 4, "big"))
    known, _ = heard(tmp_path, counted)
    # All frames but the encoder's and decoder's delay; what fills the last is not told from sound.
    assert len(samples) == 576 * n - 1_105
    np.testing.assert_array_equal(samples[: len(known)], known)
    assert decoder == 2


def test_an_mp3_of_free_format(tmp_path: Path) -> None:
    data, n_frames = mp3_without_count(A, bitrate_mode="CONSTANT", compression_level=0.5)
    frames = [bytearray(one) for one in mp3_frames(data)]
    for one in frames:
        one[2] &= 0x0F  # no bit rate
    samples, _ = heard(tmp_path, b"".join(frames))
    assert len(samples) == n_frames
    np.testing.assert_array_equal(samples, heard(tmp_path, data)[0])


def test_mp3_within_wav(tmp_path: Path) -> None:
    data, n_frames = mp3_without_count(A)
    form = struct.pack("<HHIIHH", 0x55, 1, 16_000, 8_000, 1, 0) + b"\x0c\0" + bytes(12)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body = b"data" + struct.pack("<I", len(data)) + data
    file = b"RIFF" + struct.pack("<I", len(head + body)) + head + body
    alone, _ = heard(tmp_path, data)
    samples, decoder = heard(tmp_path, file)
    assert (len(samples), decoder) == (n_frames, 2)
    np.testing.assert_array_equal(samples, alone)
    refused(tmp_path, file[:-20], "cut short")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_files_that_were_cut_or_damaged(tmp_path: Path, subtype: str) -> None:
    data = written(np.repeat(A, 8), "OGG", subtype)
    pages = ogg_pages(data)
    assert len(pages) > 4
    refused(tmp_path, data[:-1], "cut short: its last page is not there to its end")
    refused(tmp_path, data[:-1] + data, "damaged: its page at byte .*, or is not there to its end")
    flipped = data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
    last = len(data) - len(pages[-1])
    refused(tmp_path, flipped, f"damaged: its page at byte {last:,} has another check sum")
    refused(tmp_path, b"".join(pages[:-2] + pages[-1:]), "damaged: .* pages are missing")
    # What Android records ends without the flag that says so, and cannot be told from this.
    samples, decoder = heard(tmp_path, b"".join(pages[:-1]))
    known, _ = heard(tmp_path, data)
    np.testing.assert_array_equal(samples, known[: len(samples)])
    assert decoder == 1


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_page_in_the_middle_of_an_ogg_file(tmp_path: Path, subtype: str) -> None:
    pages = ogg_pages(written(np.repeat(A, 16), "OGG", subtype))
    k = len(pages) // 2
    before, behind = b"".join(pages[:k]), b"".join(pages[k + 1 :])
    number, at = int.from_bytes(pages[k][18:22], "little"), len(before)
    flipped = put(pages[k], 200, pages[k][200] ^ 255, 1)
    refused(tmp_path, before + flipped + behind, f"page at byte {at:,} has another check sum")
    gone = (
        f"damaged: its page at byte {at:,} is numbered {number + 1}, the one before it {number - 1}"
    )
    refused(tmp_path, before + behind, gone)
    twice = f"is numbered {number}, the one before it {number}: pages are missing, or there twice"
    refused(tmp_path, before + pages[k] * 2 + behind, twice)
    zeroed = f"damaged: zeros from byte {at:,} on"
    refused(tmp_path, before + bytes(len(pages[k])) + behind, zeroed)
    refused(tmp_path, before + bytes(len(pages[k])), zeroed)
    refused(tmp_path, before + b"junk" + pages[k] + behind, f"from byte {at:,} on, behind a page")
    refused(tmp_path, pages[0] * 2 + b"".join(pages[1:]), "page|malformed")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_what_may_stand_behind_an_ogg_stream(tmp_path: Path, subtype: str) -> None:
    data = written(np.repeat(A, 8), "OGG", subtype)
    known, _ = heard(tmp_path, data)
    for tail in (bytes(1_000), ID3V1, ID3V2, b"x" * 8 + APE, ID3V2 + bytes(50) + ID3V1):
        samples, decoder = heard(tmp_path, data + tail)
        np.testing.assert_array_equal(samples, known)
        assert decoder == 1
    joined, _ = heard(tmp_path, data + ID3V1 + data)
    np.testing.assert_array_equal(joined, np.concatenate([known, known]))


def test_a_live_stream_begins_anywhere(tmp_path: Path) -> None:
    pages = ogg_pages(written(np.repeat(A, 16), "OGG", "VORBIS"))
    heads = [one for one in pages if not any(one[6:14])]
    known, _ = heard(tmp_path, b"".join(pages))
    samples, decoder = heard(tmp_path, b"".join(heads + pages[len(pages) // 2 :]))
    assert 0 < len(samples) < len(known)
    np.testing.assert_allclose(samples[-4_000:], known[-4_000:], atol=1e-6)
    assert decoder == 1


def test_a_count_of_nist_sphere(tmp_path: Path) -> None:
    data = written(A, "NIST", "PCM_16")
    np.testing.assert_array_equal(heard(tmp_path, data)[0], A)
    np.testing.assert_array_equal(heard(tmp_path, data + bytes(999))[0], A)
    refused(tmp_path, data + pcm(B), "behind them are 12000 that may be samples, too")
    for law in ("ULAW", "ALAW"):  # one byte a sample, which libsndfile writes as text
        data = written(A, "NIST", law)
        assert len(heard(tmp_path, data)[0]) == len(A)
        refused(tmp_path, data[:-100], "cut short: its header promises 8000 bytes")
        refused(tmp_path, data + data, "behind them are 9024 that may be samples, too")


@pytest.mark.parametrize(
    "kind",
    ["MAT4", "MAT5", "SDS", "IRCAM", "VOC", "PAF", "PVF", "AVR", "MPC2K", "HTK", "WVE", "XI"],
)
def test_kinds_that_do_not_tell_where_they_end(tmp_path: Path, kind: str) -> None:
    subtype = {"WVE": "ALAW", "XI": "DPCM_16"}.get(kind, "PCM_16")
    data = written(A, kind, subtype, 8_000 if kind == "WVE" else RATE_HZ)
    why = f"^{kind} files do not tell where they end: convert it, ffmpeg -i FILE NEW.wav or sox"
    refused(tmp_path, data, why)
    with pytest.raises(AudioError, match=why):
        seconds(Clip("a", str(tmp_path / "a.audio")))
    refused(tmp_path, data * 2, f"{why}|not recognised")  # HTK has no other mark than its length


@pytest.mark.parametrize("kind", ["RF64", "W64", "CAF", "FLAC", "OGG", "NIST", "WAV", "AIFF"])
def test_a_tag_in_front(tmp_path: Path, kind: str) -> None:
    data = written(A, kind)
    samples, _ = heard(tmp_path, ID3V2 + data)
    np.testing.assert_array_equal(samples, heard(tmp_path, data)[0])


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("name", WHOLE_TAGS)
def test_a_tag_on_either_side(tmp_path: Path, kind: str, name: str) -> None:
    data, tag = written(np.repeat(A, 8), kind), WHOLE_TAGS[name]
    samples, _ = heard(tmp_path, tag + data + tag)
    np.testing.assert_array_equal(samples, heard(tmp_path, data)[0])


@pytest.mark.parametrize(
    "data", [b"text " * 1_000, bytes(5_000), b"OggS", b"fLaC", b"RIFF\0\0\0\0WAVE"]
)
def test_what_is_no_audio(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, "cannot be read as audio|cut short")


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x20ftypM4A " + bytes(500),
        b"\x1a\x45\xdf\xa3" + bytes(500),
        b"#!AMR\n" + b"\x3c" * 500,
    ],
)
def test_a_kind_that_is_not_decoded_has_a_way_out(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, r"where it is sound, ffmpeg -i FILE NEW.wav converts it")


def test_noise_is_no_mp3(tmp_path: Path) -> None:
    data = np.random.default_rng(3).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    refused(tmp_path, data, "cannot be read as audio")
