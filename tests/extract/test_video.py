"""The sound of `.avi` videos, and what is said where PyAV is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from extract.audio import Clip, load, seconds
from features.common.errors import AudioError


def write_avi(path: Path, samples: np.ndarray, rate: int, *, pictures: bool = True) -> Path:
    """Write 16-bit sound, shape (n, channels), with black pictures or without."""
    av = pytest.importorskip("av", reason="needs PyAV, the extra `video`")
    with av.open(str(path), "w") as file:
        # Streams first: one that is added after a packet crashes FFmpeg.
        video = file.add_stream("mjpeg", rate=25) if pictures else None
        layout = "stereo" if samples.shape[1] == 2 else "mono"
        sound = file.add_stream("pcm_s16le", rate=rate, layout=layout) if len(samples) else None
        if video:
            video.width = video.height = 32
            video.pix_fmt = "yuvj420p"
            for n in range(max(1, len(samples) * 25 // rate)):
                black = np.zeros((32, 32, 3), np.uint8)
                picture = av.VideoFrame.from_ndarray(black, format="rgb24")
                picture.pts = n
                file.mux(video.encode(picture))
            file.mux(video.encode(None))
        if sound:
            pcm = np.round(samples * 2**15).astype("<i2").reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    return path


def noise(rng: np.random.Generator, n: int, channels: int) -> np.ndarray:
    """Samples that 16 bits hold exactly."""
    return rng.integers(-(2**14), 2**14, (n, channels)) / 2**15


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (16_000, 1), (44_100, 2)])
@pytest.mark.parametrize("name", ["a.avi", "A.AVI"])
def test_a_video_is_its_sound(
    tmp_path: Path, rng: np.random.Generator, rate: int, channels: int, name: str
) -> None:
    samples = noise(rng, rate + 333, channels)
    write_avi(tmp_path / "a.avi", samples, rate)
    sf.write(tmp_path / "a.wav", samples, rate, subtype="PCM_16")
    sound = Clip("a", str(tmp_path / "a.wav"))
    (tmp_path / "a.avi").rename(tmp_path / name)
    video = Clip("a", str(tmp_path / name))
    assert seconds(video) == seconds(sound)
    np.testing.assert_array_equal(load(video, 400), load(sound, 400))


def test_segments_of_a_video(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = noise(rng, 16_000, 1)
    path = str(write_avi(tmp_path / "a.avi", samples, 16_000, pictures=False))
    np.testing.assert_array_equal(load(Clip("a", path, 0.25, 0.75)), samples[4_000:12_000, 0])
    assert seconds(Clip("a", path, 0.25)) == 0.75
    with pytest.raises(AudioError, match=r"segment 0.5-1.5 s is not inside the file's 1 s"):
        load(Clip("a", path, 0.5, 1.5))


@pytest.mark.parametrize("call", [load, seconds])
def test_videos_that_cannot_be_used(tmp_path: Path, rng: np.random.Generator, call) -> None:
    path = write_avi(tmp_path / "a.avi", noise(rng, 48_000, 2), 48_000)
    whole = path.read_bytes()
    # The format tag of the second stream's WAVEFORMATEX, after its chunk's name and size.
    at = whole.index(b"strf", whole.index(b"auds")) + 8
    coded = whole[:at] + b"\xee\xee" + whole[at + 2 :]
    silent = write_avi(tmp_path / "silent.avi", np.zeros((0, 1)), 48_000)
    for content, reason in (
        (whole[: len(whole) // 2], rf"cut short: its header promises {len(whole)} bytes, \d+ are"),
        (b"this is no video", "cannot be read as video: Invalid data found"),
        (b"", "empty: the file has no bytes"),
        (silent.read_bytes(), "the video has no sound"),
        (coded, "sound is coded in a way that FFmpeg does not know"),
    ):
        path.write_bytes(content)
        with pytest.raises(AudioError, match=reason):
            call(Clip("a", str(path)))
    path.unlink()
    with pytest.raises(AudioError, match="no such file"):
        call(Clip("a", str(path)))


def test_a_title_that_is_no_utf_8_is_no_fault(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = noise(rng, 4_000, 1)
    path = write_avi(tmp_path / "a.avi", samples, 16_000)
    whole = path.read_bytes()
    assert whole.count(b"Lavf") == 1  # the writer's name, among the tags
    path.write_bytes(whole.replace(b"Lavf", "Läuf".encode("latin-1")))
    np.testing.assert_array_equal(load(Clip("a", str(path))), samples[:, 0])


def test_too_short_a_sound(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_avi(tmp_path / "a.avi", noise(rng, 212, 1), 16_000)
    with pytest.raises(AudioError, match="no frame: 212 samples at 16000 Hz, the model needs 400"):
        load(Clip("a", str(path)), 400)


class NoAv:
    """A finder that says PyAV is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "av":
            raise ModuleNotFoundError(name)


@pytest.mark.parametrize("call", [load, seconds])
def test_without_pyav_the_reason_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    monkeypatch.setattr(sys, "meta_path", [NoAv(), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == "av"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "a.avi").write_bytes(b"a video, perhaps")
    with pytest.raises(AudioError, match=r"needs PyAV: install serfuse\[video\]"):
        call(Clip("a", str(tmp_path / "a.avi")))
