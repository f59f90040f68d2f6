"""States of single frames: equal to those of the file alone, of one forward with the means."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from extract import acoustic
from extract.encoders.description import describe
from extract.encoders.encoder import Encoder
from extract.encoders.reference import ReferenceEncoder
from extract.encoders.registry import Model
from extract.frames import FrameOutput, UtteranceFrames, fault_of, rounded
from extract.job import compute as compute_module
from extract.job import parts
from extract.job import run as run_module
from extract.plan import work as work_module
from features.common.errors import ModelError, StoreError
from features.recipe.load import load_recipe
from features.sequences import load_sequences
from features.stores.failures import read_failures
from features.stores.frames import FrameStore
from features.stores.read import Store
from tests.checkpoints import FORMS, frames_alone, save, speechlike
from tests.extract.test_encoder import WAYS
from tests.extract.test_reference import made
from tests.extract.test_run import extract, overwrite, stop_after  # noqa: F401  (a fixture)

TOP = Path(__file__).resolve().parents[2]
SECONDS = (0.31, 1.9, 1.1, 0.0255)  # the last gives a single frame
POOLED = "[extract]\nbatch_seconds = 2.0\nworkers = 0\n"
ASKED = {"frames": 'frames = ["last"]\n', "segments": "segments = 4\n"}
FRAMES = POOLED + ASKED["frames"]
BOTH = POOLED + "".join(ASKED.values())
each_kind = pytest.mark.parametrize("kind", ASKED)
alone_and_with_segments = pytest.mark.parametrize("asked", [FRAMES, BOTH], ids=["frames", "both"])


def described(folder: Path, **more):
    settings = {"precision": "float32", "max_seconds": 60.0, "frames": ["last", 1], **more}
    return describe(Model("some", "transformers"), folder, **settings)


def parts_of(frames: np.ndarray, n_segments: int = 8) -> np.ndarray:
    """Means of frames n * i // K to n * (i + 1) // K, shape (..., min(n, K), width)."""
    n = frames.shape[-2]
    k = min(n, n_segments)
    means = [frames[..., n * i // k : n * (i + 1) // k, :].mean(axis=-2) for i in range(k)]
    return np.stack(means, axis=-2)


def mfcc_frames(audio: np.ndarray, kind: str = "frames") -> UtteranceFrames:
    """Frames, or four segments, of MFCC."""
    outputs = acoustic.describe("mfcc", ["last"], segments=4).framewise
    return acoustic.compute_framewise("mfcc", audio, outputs)[1][kind]


@pytest.mark.parametrize(
    "form",
    [
        "wav2vec2-group-plain",
        pytest.param("wavlm-layer-stable", marks=pytest.mark.slow),
        pytest.param("data2vec-audio", marks=pytest.mark.slow),
        pytest.param("whisper", marks=pytest.mark.slow),
    ],
)
def test_frames_are_those_of_the_file_alone(form: str, tmp_path: Path) -> None:
    model = save(tmp_path, form)
    audio = speechlike(SECONDS)
    expected = [frames_alone(model, tmp_path, samples)[[1, 3]] for samples in audio]
    encoder = Encoder(described(tmp_path, frames_dtype="float32"))
    for encoder.file_by_file, encoder.max_runs in WAYS:
        computed = encoder.begin_framewise(audio)()
        np.testing.assert_array_equal(computed.features["mean"], encoder.embed(audio)["mean"])
        for frames, values in zip(computed.framewise["frames"], expected, strict=True):
            assert frames.values.dtype == np.float32
            assert frames.values.shape == values.shape
            error = np.linalg.norm(frames.values - values, axis=-1)
            assert (error / np.linalg.norm(values, axis=-1)).max() < 1e-5
            np.testing.assert_allclose(frames.peaks, abs(values).max(axis=(1, 2)), rtol=1e-4)
    half = Encoder(described(tmp_path, frames_dtype="float16")).begin_framewise(audio)()
    whole = Encoder(described(tmp_path, frames_dtype="float32")).begin_framewise(audio)()
    for one, other in zip(half.framewise["frames"], whole.framewise["frames"], strict=True):
        np.testing.assert_array_equal(one.values, other.values.astype(np.float16))
        np.testing.assert_array_equal(one.peaks, other.peaks)


@pytest.mark.parametrize(
    "form",
    [
        form if form == "hubert-layer-stable" else pytest.param(form, marks=pytest.mark.slow)
        for form in FORMS
    ],
)
def test_segments_are_means_of_the_frames_of_the_file_alone(form: str, tmp_path: Path) -> None:
    model = save(tmp_path, form)
    audio = speechlike((0.31, 1.9, 0.1105, 0.0255))  # the last two have fewer than 8 frames
    expected = [frames_alone(model, tmp_path, samples) for samples in audio]
    assert [frames.shape[1] < 8 for frames in expected] == [False, False, True, True]
    encoder = Encoder(described(tmp_path, frames_dtype="float32", segments=8, frames=[1]))
    for encoder.file_by_file, encoder.max_runs in WAYS:
        computed = encoder.begin_framewise(audio)()
        np.testing.assert_array_equal(computed.features["mean"], encoder.embed(audio)["mean"])
        found = computed.framewise["segments"]
        for segments, values in zip(found, expected, strict=True):
            error = np.linalg.norm(segments.values - parts_of(values), axis=-1)
            assert segments.values.dtype == np.float32
            assert (error / np.linalg.norm(parts_of(values), axis=-1)).max() < 2e-5
        # Of the very states that the frames are.
        for segments, frames in zip(found, computed.framewise["frames"], strict=True):
            np.testing.assert_allclose(
                segments.values[1], parts_of(frames.values.astype(float))[0], rtol=1e-5, atol=1e-6
            )
    half = Encoder(described(tmp_path, segments=8, frames=[]))
    encoder.file_by_file, encoder.max_runs = half.file_by_file, half.max_runs
    whole = encoder.begin_framewise(audio)().framewise["segments"]
    for one, other in zip(half.begin_framewise(audio)().framewise["segments"], whole, strict=True):
        np.testing.assert_array_equal(one.values, other.values.astype(np.float16))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "reference"])
@pytest.mark.parametrize("form", ["hubert-layer-stable", "whisper"])
def test_segments_of_windows_are_of_the_whole_utterance(
    form: str, engine: str, tmp_path: Path
) -> None:
    save(tmp_path, form)
    settings = {"engine": engine, "frames_dtype": "float32", "frames": [0, 1, 2, 3], "segments": 5}
    description = described(tmp_path, max_seconds=1.0, **settings)
    made = ReferenceEncoder if engine == "reference" else Encoder
    audio = speechlike((3.17, 0.8, 2.03))
    found = made(description).begin_framewise(audio if engine == "exact" else audio[:1])()
    for frames, segments in zip(*found.framewise.values(), strict=True):
        np.testing.assert_allclose(
            segments.values, parts_of(frames.values.astype(float), 5), rtol=1e-5, atol=1e-6
        )


@pytest.mark.slow
def test_segments_of_layers_with_other_numbers_of_frames(tmp_path: Path) -> None:
    made(tmp_path, "qwen2_audio_encoder")
    layers = [
        ReferenceEncoder(
            described(tmp_path, engine="reference", frames=[k], frames_dtype="float32")
        )
        for k in (1, 2)
    ]
    audio = speechlike((0.35,))
    frames = [layer.begin_framewise(audio)().framewise["frames"][0].values[0] for layer in layers]
    assert len(frames[0]) > 12 > len(frames[1])
    both = {"engine": "reference", "frames": [], "frames_dtype": "float32", "layers": [1, 2]}
    encoder = ReferenceEncoder(described(tmp_path, segments=12, **both))
    (segments,) = encoder.begin_framewise(audio)().framewise["segments"]
    for values, layer in zip(segments.values, frames, strict=True):
        expected = parts_of(layer.astype(float), len(frames[1]))
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_frames_of_windows_stand_behind_one_another(tmp_path: Path) -> None:
    model = save(tmp_path, "hubert-layer-stable")
    (audio,) = speechlike((3.0,))
    encoder = Encoder(described(tmp_path, max_seconds=1.0, frames=[2]))
    short = audio[:14_000]
    long, other = encoder.begin_framewise([audio, short])().framewise["frames"]
    n = (len(audio) - 400) // 320 + 1
    assert (long.values.shape, other.values.shape) == ((1, n, 24), (1, 43, 24))
    scaled = Encoder(described(tmp_path, max_seconds=1.0, frames=[2], layers=[2]))
    mean = scaled.embed([audio])["mean"][0, 0]
    np.testing.assert_allclose(long.values[0].astype(float).mean(axis=0), mean, atol=2e-3)
    alone = frames_alone(model, tmp_path, short)[2]
    np.testing.assert_allclose(other.values[0], alone, rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_layers_of_frames_need_not_be_those_of_the_means(tmp_path: Path) -> None:
    save(tmp_path, "wav2vec2-layer-stable")
    audio = speechlike((0.4, 0.9))
    first = Encoder(described(tmp_path, layers=[1], frames=[3]))
    every = Encoder(described(tmp_path, frames=[0, 1, 2, 3]))
    some, whole = first.begin_framewise(audio)(), every.begin_framewise(audio)()
    np.testing.assert_array_equal(some.features["mean"], whole.features["mean"][[1]])
    for one, other in zip(some.framewise["frames"], whole.framewise["frames"], strict=True):
        np.testing.assert_array_equal(one.values, other.values[[3]])
    deep = Encoder(described(tmp_path, layers=[3], frames=[0]))
    assert deep.begin_framewise(audio)().framewise["frames"][0].values.shape[0] == 1
    with pytest.raises(ModelError, match=r"\[extract\] frames \[4\]: the model has 0 to 3"):
        described(tmp_path, frames=[4])


@pytest.mark.slow
def test_the_reference_path_gives_them_too(tmp_path: Path) -> None:
    model = save(tmp_path, "whisper")
    audio = speechlike((0.31, 1.1213))
    settings = {"engine": "reference", "frames_dtype": "float32"}
    encoder = ReferenceEncoder(described(tmp_path, **settings))
    computed = encoder.begin_framewise(audio)()
    np.testing.assert_array_equal(computed.features["mean"], encoder.embed(audio)["mean"])
    for samples, frames in zip(audio, computed.framewise["frames"], strict=True):
        expected = frames_alone(model, tmp_path, samples)[[1, 3]]
        np.testing.assert_allclose(frames.values, expected, rtol=1e-4, atol=1e-5)
    windows = ReferenceEncoder(described(tmp_path, max_seconds=1.0, **settings))
    (long,) = windows.begin_framewise(audio[1:])().framewise["frames"]
    halves = [piece for piece in np.array_split(audio[1], 2)]
    expected = np.concatenate(
        [f.values for f in windows.begin_framewise(halves)().framewise["frames"]], axis=1
    )
    np.testing.assert_array_equal(long.values, expected)


@pytest.mark.slow
def test_layers_with_other_numbers_of_frames_do_not_go_together(tmp_path: Path) -> None:
    made(tmp_path, "qwen2_audio_encoder")
    encoder = ReferenceEncoder(described(tmp_path, engine="reference", frames=[1, 2]))
    with pytest.raises(ModelError, match=r"layers 1, 2 have \d+, \d+ frames of one file; store o"):
        encoder.begin_framewise(speechlike((1.0,)))
    last = ReferenceEncoder(described(tmp_path, engine="reference", frames=["last"]))
    assert last.begin_framewise(speechlike((1.0,)))().framewise["frames"][0].values.shape == (
        1,
        25,
        24,
    )


def test_frames_of_acoustic_sets() -> None:
    (audio,) = speechlike((0.5,))
    described = acoustic.describe("log-mel", ["last"], "float32", 8)
    features, found = acoustic.compute_framewise("log-mel", audio, described.framewise)
    expected = acoustic.log_mel(audio)
    np.testing.assert_array_equal(found["frames"].values[0], expected.astype(np.float32))
    np.testing.assert_array_equal(found["segments"].values[0], parts_of(expected).astype("f4"))
    np.testing.assert_array_equal(features["mean"], acoustic.compute("log-mel", audio)["mean"])
    half = mfcc_frames(audio)
    assert half.values.shape == (1, len(expected), 13)
    mean = half.values[0].mean(axis=0, dtype=float)
    np.testing.assert_allclose(mean, acoustic.compute("mfcc", audio)["mean"], rtol=1e-3, atol=1e-2)
    with pytest.raises(
        ModelError, match=r"egemaps: functionals have no frames: set frames = \[\] in"
    ):
        acoustic.describe("egemaps", ["last"])
    with pytest.raises(
        ModelError, match=r"compare: functionals have no segments: set segments = 0 in"
    ):
        acoustic.describe("compare", segments=8)
    with pytest.raises(ModelError, match=r"mfcc: \[extract\] frames \[3\]: the model has 0 to 0"):
        acoustic.describe("mfcc", [3])


def test_the_bytes_of_segments_are_counted_by_utterance() -> None:
    output = FrameOutput((0, 1), "float16", 4, 50.0, 8)
    # 5 frames, 50 and 3,000: of these 5, 8 and 8 segments of two layers and four columns.
    assert output.bytes_of([0.1, 1.0, 60.0]) == (5 + 8 + 8) * 2 * 4 * 2
    assert FrameOutput((0, 1), "float16", 4, 50.0).bytes_of([0.1, 1.0]) == 55 * 2 * 4 * 2


def test_what_float16_cannot_hold_is_named() -> None:
    output = FrameOutput((3, 7), "float16", 2, 50.0)
    fine = np.array([[[1.0, -65_519.0]], [[0.0, 2.0]]])
    assert fault_of(rounded(fine, "float16"), output) is None
    large = fine.copy()
    large[1, 0, 0] = -70_123.4
    reason = fault_of(rounded(large, "float16"), output)
    assert reason == (
        "layer 7 reaches 70,123, float16 holds at most 65,504: set [extract] frames_dtype = "
        '"float32"'
    )
    whole = FrameOutput((3, 7), "float32", 2, 50.0)
    assert fault_of(rounded(large, "float32"), whole) is None
    large[0, 0, 0] = np.nan
    assert "not finite" in str(fault_of(rounded(large, "float32"), whole))


def frames_of(tmp_path: Path, kind: str = "frames") -> dict[str, np.ndarray]:
    """Utterance -> frames, shape (n_layers, n_frames, width), each block compared."""
    with FrameStore(tmp_path / f"stores/tones/{kind}/mfcc.h5") as store:
        assert store.verify() == []
        bounds = zip(store.offsets[:-1], store.offsets[1:], strict=True)
        whole = store.mapped()
        return {
            name: np.array(whole[:, a:b])
            for name, (a, b) in zip(store.index["utterance"], bounds, strict=True)
        }


def flip(path: Path) -> None:
    """Change a bit of the first frame."""
    with FrameStore(path) as store:
        raw, start = bytearray(path.read_bytes()), store.mapped().tobytes()
    raw[raw.index(start)] ^= 1
    path.write_bytes(raw)


def pooled(tmp_path: Path) -> bytes:
    return (tmp_path / "stores/tones/mfcc.h5").read_bytes()


def files(tmp_path: Path) -> dict[str, bytes]:
    """Name -> bytes of all finished files."""
    folder = tmp_path / "stores/tones"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.h5")}


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("frames", "frames (float16, layers 0)"),
        pytest.param(
            "segments", "segments (4 an utterance, float16, layers 0)", marks=pytest.mark.slow
        ),
    ],
)
def test_frames_beside_a_store_that_is_there_leave_it_as_it_is(
    extract,  # noqa: F811
    tmp_path: Path,
    kind: str,
    shown: str,
) -> None:
    extract(extra=POOLED)
    path = tmp_path / "stores/tones/mfcc.h5"
    before, stamp = pooled(tmp_path), path.stat()
    code, text = extract(extra=POOLED + ASKED[kind])
    assert code == 0
    assert f"tones/mfcc: 12 of 12 cached, nothing to do; {shown}: 12 to" in text
    assert f"12 computed, 12 cached, {kind} of 0 cached" in text
    assert (pooled(tmp_path), path.stat().st_ino) == (before, stamp.st_ino)
    for name, frames in frames_of(tmp_path, kind).items():
        audio = sf.read(tmp_path / f"data/tones/{name}.wav", dtype="float32")[0]
        np.testing.assert_array_equal(frames, mfcc_frames(audio, kind).values)
    code, text = extract(extra=POOLED + ASKED[kind])
    assert (code, f"{shown}: 12 of 12 cached, nothing to do" in text) == (0, True)
    # Both of one forward: the same bytes as one after the other.
    after = files(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    code, text = extract(extra=POOLED + ASKED[kind])
    assert f"12 computed, 0 cached, {kind} of 0 cached" in text
    assert (pooled(tmp_path), files(tmp_path)) == (before, after)
    assert sorted(p.name for p in (tmp_path / "stores/tones").iterdir()) == [
        "files.json", *sorted([kind, "mfcc.h5"]), "utterances.csv", "utterances.json",
    ]  # fmt: skip
    assert os.listdir(tmp_path / "stores/tones" / kind) == ["mfcc.h5"]


@pytest.mark.slow
def test_each_file_gets_what_it_lacks(extract, tmp_path: Path) -> None:  # noqa: F811
    extract(extra=FRAMES)
    before = frames_of(tmp_path)
    overwrite(tmp_path, "u03")
    code, text = extract(extra=POOLED)  # the store alone
    assert "1 computed, 11 cached" in text
    (tmp_path / "data/tones/u05.wav").unlink()
    with_store = pooled(tmp_path)
    code, text = extract(extra=FRAMES)
    assert code == 1
    assert "1 computed, 11 cached, frames of 10 cached, 1 removed" in text
    assert "frames of 1 removed" in text
    assert len(pooled(tmp_path)) < len(with_store)
    after = frames_of(tmp_path)
    assert sorted(after) == sorted({*before} - {"u05"})
    for name, frames in after.items():
        assert np.array_equal(frames, before[name]) == (name != "u03")


@pytest.mark.slow
@alone_and_with_segments
def test_an_interrupted_extraction_goes_on_and_equals_an_undisturbed_one(
    extract,  # noqa: F811
    tmp_path: Path,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract(extra=asked)
    undisturbed = files(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    monkeypatch.setattr(parts, "SEAL_AFTER_BYTES", 1)
    embed, count = compute_module.begin_batch, [0]

    def interrupted(*args, **more):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return embed(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(compute_module, "begin_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(extra=asked)
    folder = tmp_path / "stores/tones/mfcc.parts"
    sealed = sorted(path.name for path in folder.glob("*.h5"))
    assert len(sealed) == (4 if asked == FRAMES else 6)
    assert sealed[0].replace("frames-", "part-") == sealed[2]
    with pytest.raises(StoreError, match=r"\(frames: stored .*'dtype': 'float16'.*, asked None\)"):
        extract(extra=POOLED)
    with pytest.raises(StoreError, match="asked .*'float32'"):
        extract(extra=asked + 'frames_dtype = "float32"')
    assert sorted(path.name for path in folder.glob("*.h5")) == sealed
    # A kill between the two parts of a batch, and a byte that another part lost.
    (folder / sealed[2]).unlink()
    flip(folder / sealed[1])
    if asked == BOTH:
        (folder / sealed[4]).unlink()
    code, text = extract(extra=asked)
    assert f"{sealed[1]}: damaged; its batches are computed again" in text
    assert (code, files(tmp_path)) == (0, undisturbed)
    assert not folder.exists()


@pytest.mark.slow
@alone_and_with_segments
def test_a_kill_between_the_two_merges_loses_nothing(
    extract,  # noqa: F811
    tmp_path: Path,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract(extra=asked)
    undisturbed = files(tmp_path)
    for stopped in ("merge_frames", "_merge"):
        shutil.rmtree(tmp_path / "stores")
        with monkeypatch.context() as patch:
            patch.setattr(
                run_module, stopped, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                extract(extra=asked)
        assert not (tmp_path / "stores/tones/mfcc.h5").exists()
        _, text = extract(extra=asked)
        assert "0 computed" in text
        assert files(tmp_path) == undisturbed


@pytest.mark.slow
@alone_and_with_segments
def test_the_merge_reads_more_parts_than_it_keeps_open_in_little_memory(
    extract,  # noqa: F811
    tmp_path: Path,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract(extra=asked)
    undisturbed = files(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    monkeypatch.setattr(parts, "SEAL_AFTER_BYTES", 1)
    monkeypatch.setattr(run_module, "OPEN_PARTS", 1)
    extract(extra=asked)
    assert files(tmp_path) == undisturbed


@pytest.mark.process
@alone_and_with_segments
def test_workers_seal_both_and_give_the_same_bytes(extract, tmp_path: Path, asked: str) -> None:  # noqa: F811
    pytest.importorskip("distributed")
    extract(extra=asked)
    undisturbed = files(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    code, text = extract("--cluster", "local:2", extra=asked)
    assert (code, "12 computed, 0 cached, frames of 0 cached" in text) == (0, True)
    assert files(tmp_path) == undisturbed


@pytest.mark.process
@alone_and_with_segments
def test_a_full_disk_keeps_what_is_sealed(
    extract,  # noqa: F811
    tmp_path: Path,
    asked: str,
) -> None:
    """No file may be larger than the parts are: the merge of the frames fails."""
    extract(extra=asked)
    undisturbed = files(tmp_path)
    shutil.rmtree(tmp_path / "stores")
    most = len(undisturbed["frames/mfcc.h5"]) - 1
    code = (
        "import resource, signal, sys\n"
        "from extract.job import parts\n"
        "parts.SEAL_AFTER_BYTES = 1\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most},) * 2)\n"
        "from extract.__main__ import main, parser\n"
        "from features.common.command import run_command\n"
        "sys.exit(run_command(main, parser()))\n"
    )
    where = ["--data", str(tmp_path / "data"), "--stores", str(tmp_path / "stores")]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tones.toml"), *where],
        capture_output=True, text=True, check=False, cwd=TOP,
    )  # fmt: skip
    assert done.returncode == 1
    assert "frames/mfcc.h5: no file may be so large here" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "stores/tones/frames") == []
    _, text = extract(extra=asked)
    assert "0 computed" in text
    assert files(tmp_path) == undisturbed


@pytest.mark.slow
@each_kind
def test_damaged_frames_are_computed_again_and_the_store_is_not(
    extract,  # noqa: F811
    tmp_path: Path,
    kind: str,
) -> None:
    extract(extra=BOTH)
    sound = files(tmp_path)
    flip(tmp_path / f"stores/tones/{kind}/mfcc.h5")
    code, text = extract("--verify", extra=BOTH)
    assert f"{kind}/mfcc.h5: damaged: /frames, layer 0, utterances u00, u01, u02 and" in text
    assert (code, files(tmp_path)) == (0, sound)


@pytest.mark.slow
def test_an_overflow_fails_the_frames_alone(
    extract,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = acoustic._frames

    def large(name, audio):
        frames = compute(name, audio)
        return frames * 1e4 if len(audio) > 16_000 else frames

    monkeypatch.setattr(acoustic, "_frames", large)
    code, text = extract(extra=FRAMES)
    assert code == 1
    failures = read_failures(tmp_path / "stores/tones/frames/mfcc.h5")
    assert len(failures)
    assert set(failures["reason"].str.replace(r"[\d,]{6,} ?", "N", regex=True)) == {
        'layer 0 reaches N, float16 holds at most N: set [extract] frames_dtype = "float32"'
    } or set(failures["reason"].str[:16]) == {"layer 0 reaches "}
    assert f"frames of {len(failures)} failed (see " in text
    assert not (tmp_path / "stores/tones/mfcc.failures.csv").exists()
    assert sorted([*frames_of(tmp_path), *failures["utterance"]]) == [f"u{i:02}" for i in range(12)]
    with Store(tmp_path / "stores/tones/mfcc.h5") as store:
        assert len(store.index) == 12
    code, text = extract("--allow-failures", "12", extra=FRAMES)
    assert code == 0
    assert "computed" not in text  # what failed is not tried again


@pytest.mark.slow
def test_frames_of_other_settings_are_not_mixed(extract, tmp_path: Path) -> None:  # noqa: F811
    extract(extra=FRAMES)
    with pytest.raises(
        StoreError, match=r"dtype: stored 'float16', asked 'float32'; .*, or delete"
    ):
        extract(extra=FRAMES + 'frames_dtype = "float32"')
    extract(extra=POOLED + ASKED["segments"])
    with pytest.raises(StoreError, match="segments: stored 4, asked 8"):
        extract(extra=POOLED + "segments = 8\n")
    extract("--force", extra=FRAMES + 'frames_dtype = "float32"')
    assert next(iter(frames_of(tmp_path).values())).dtype == np.float32


@pytest.mark.slow
def test_a_disk_that_has_less_refuses(
    extract,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_module, "disk_free", lambda stores: 30_000)
    extract(extra=POOLED)
    with pytest.raises(StoreError, match=r"the disk has .*with \[extract\] layers and frames$"):
        extract(extra=FRAMES)
    monkeypatch.setattr(work_module, "disk_free", lambda stores: 3_000)
    with pytest.raises(StoreError, match=r"with \[extract\] layers, or fewer segments$"):
        extract(extra=POOLED + ASKED["segments"])


@pytest.mark.slow
@each_kind
def test_extracted_frames_become_batches(
    extract,  # noqa: F811
    tmp_path: Path,
    tones_recipe,
    kind: str,
) -> None:
    extract(extra=BOTH)
    recipe = load_recipe(tones_recipe('["mfcc"]', BOTH))
    sequences = load_sequences(recipe, tmp_path / "stores", "mfcc", source=kind)
    stored = frames_of(tmp_path, kind)
    n = 0
    for batch in sequences.batches(5, seed=1):
        for i, row in enumerate(batch.rows):
            expected = stored[sequences.rows["utterance"][row]][0].astype(np.float32)
            np.testing.assert_array_equal(batch.X[i, : batch.lengths[i]], expected)
            n += 1
    assert n == 12
