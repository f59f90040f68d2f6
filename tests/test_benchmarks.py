"""Every benchmark runs in its short form, and says so where the sides disagree."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import audio, memory, precision, segments, store, subsets
from features.stores.read import Store

TOP = Path(__file__).resolve().parents[1]


def short(*command: str) -> str:
    """Run a benchmark's `--small` in a process of its own; one thread, as the cores are shared."""
    done = subprocess.run(
        [sys.executable, *command, "--small"], cwd=TOP, text=True, capture_output=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(text: str, first: str) -> list[list[str]]:
    """Cells of the table rows whose first cell begins so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.process
@pytest.mark.parametrize("how", [["-m", "benchmarks.store"], ["benchmarks/store.py"]])
def test_store(how: list[str]) -> None:
    text = short(*how)
    assert "goal 80% everywhere: short form" in text
    assert "missed" not in text
    assert "Short form: the goals are for the full sizes." in text
    for rows in store.SMALL_ROWS:
        cells = rows_of(text, f"{rows:,} x {store.SMALL_LAYERS}")
        assert {one[1] for one in cells} == {"0", "2", "4"}
        assert {one[2] for one in cells} <= {"cold", "warm"}
    assert "All ways give what was written." in text


@pytest.mark.process
def test_frames() -> None:
    text = short("-m", "benchmarks.frames")
    ours, files = (rows_of(text, way)[0] for way in ("serfuse", "npy"))
    assert float(ours[-1].rstrip("x")) < float(files[-1].rstrip("x"))
    assert "Both ways give what was written." in text


@pytest.mark.process
def test_segments() -> None:
    text = short("-m", "benchmarks.segments")
    assert "288 segments x 80 columns" in text  # 36 utterances of eight
    for network in segments.SETTINGS:
        ((_, on_frames, on_segments, difference, *_),) = rows_of(text, network)
        scores = float(on_frames), float(on_segments)
        assert float(difference.split()[0]) == pytest.approx(scores[1] - scores[0], abs=1.1e-3)
        if network == "hgfm":  # rising tones and falling ones: coarse steps tell them, too
            assert min(scores) > 0.8
    assert "Speakers 3, seeds 1" in text


@pytest.mark.process
def test_audio() -> None:
    text = short("-m", "benchmarks.audio")
    cells = [row for kind, _ in audio.SMALL_KINDS for row in rows_of(text, kind)]
    assert len(cells) == len(audio.SMALL_KINDS)
    assert all(float(row[-1]) <= audio.TOLERANCE for row in cells)


@pytest.mark.process
def test_subsets() -> None:
    text = short("-m", "benchmarks.subsets")
    for method in subsets.SUBSET_METHODS:
        ((_, library, numpy, _, ours, by_library, by_numpy),) = rows_of(text, f"UAR, {method}")
        rates = [float(one.replace(",", "")) for one in (library, numpy, ours)]
        assert float(by_library) == pytest.approx(rates[2] / rates[0], rel=0.02)
        assert float(by_numpy) == pytest.approx(rates[2] / rates[1], rel=0.02)
    assert "Shares against numpy" in text
    assert text.count("short form") == len(subsets.GOALS) + 1
    assert "missed" not in text
    assert "All winners and ties are the same." in text


def test_subsets_says_where_winners_differ() -> None:
    truth, scores = subsets.made_classes(5, 60)
    way = subsets.class_ways(truth, scores, "mean")["library"]
    problem = subsets.Classes(truth, scores, "mean", ["uar"])
    assert subsets.agrees(problem, way, "uar", 2)
    assert not subsets.agrees(problem, lambda one: way(one) + (one == [0, 1]), "uar", 2)
    assert not subsets.agrees(problem, lambda one: float(round(way(one), 1)), "uar", 2)


@pytest.mark.process
@pytest.mark.parametrize("how", [["-m", "benchmarks.resampling"], ["benchmarks/resampling.py"]])
def test_resampling(how: list[str]) -> None:
    text = short(*how)
    for name in ("on the clock", "of processors"):
        ((_, _, _, ratio, _),) = rows_of(text, name)
        assert float(ratio) > 1
    assert len(rows_of(text, "10,000 swaps")) == 1


@pytest.mark.process
def test_neural() -> None:
    text = short("-m", "benchmarks.neural", "--only", "mlp")
    ((_, base, *_),) = rows_of(text, "torch, DataLoader")
    for way in ("torch, rows by an index", "engine, one after the other", "engine, stacked"):
        ((_, seconds, _, ratio, _),) = rows_of(text, way)
        assert float(ratio) == pytest.approx(float(base) / float(seconds), rel=0.15)
    # One after the other and stacked, the engine gives the same bits.
    alone, stacked = (rows_of(text, f"engine, {how}")[0][-1] for how in ("one", "stacked"))
    assert alone == stacked
    assert "Goal 2 x DataLoader: short form." in text


@pytest.mark.process
def test_neural_on_frames() -> None:
    text = short("-m", "benchmarks.neural", "--only", "hgfm")
    ((_, base, _, _, both, _, loss),) = rows_of(text, "torch, packed sequences")
    for way in ("ours, fold by fold", "ours, stacked"):
        ((_, seconds, _, ratio, at_once, beside, own_loss),) = rows_of(text, way)
        assert float(ratio) == pytest.approx(float(base) / float(seconds), rel=0.15)
        assert float(beside) == pytest.approx(float(both) / float(at_once), rel=0.15)
        assert float(own_loss) == pytest.approx(float(loss), abs=2e-5)
    assert "Goal 5 x torch's module: short form." in text


@pytest.mark.process
def test_memory() -> None:
    text = short("benchmarks/memory.py")
    for model in memory.MODELS:
        ((_, few, many, ratio, _),) = rows_of(text, model)
        few_mb, many_mb = (float(one.split(" = ")[0]) for one in (few, many))
        assert float(ratio) == pytest.approx(many_mb / few_mb, abs=0.01)
    for stage in memory.STAGES:
        assert rows_of(text, stage)


@pytest.mark.process
@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is missing"
)
def test_precision() -> None:
    text = short("-m", "benchmarks.precision")
    rows = rows_of(text, precision.TINY)
    layers = [row for row in rows if row[1].isdigit()]
    errors = {half: [float(r[3]) for r in layers if r[2] == half] for half in precision.HALVES}
    assert len(errors["bfloat16"]) == len(errors["float16"]) == 5
    # Eight bits of a significand, and eleven.
    assert all(1e-4 < one < 1e-1 for one in errors["bfloat16"])
    assert all(1e-5 < one < 1e-2 for one in errors["float16"])
    assert max(errors["float16"]) < min(errors["bfloat16"])
    scores = [row for row in rows if row[1] == "last"]
    assert [row[2:4] for row in scores] == [
        [one, part] for one in ("float32", *precision.HALVES) for part in ("devel", "test")
    ]


def test_store_says_where_a_read_gives_other_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--rows", "70", "--layers", "2", "--columns", "8", "--repeats", "1"]
    assert store.main(argv) == 0
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda *args, **more: read(*args, **more) + 1)
    assert store.main(argv) == 1
    out, err = capsys.readouterr()
    assert "OTHER VALUES THAN WERE WRITTEN." in out
    assert "70 x 2, layer 1: check gives other values" in err


def test_store_looks_at_the_bytes_of_the_layer(tmp_path: Path) -> None:
    store.write(tmp_path / "made.h5", 70, 2, 8)
    first = store.offset_of(tmp_path / "made.h5", store.made(0, 70, 8)[:1])
    found = np.fromfile(tmp_path / "made.h5", "<f4", 70 * 8, offset=first + 4 * 70 * 8)
    np.testing.assert_array_equal(found.reshape(70, 8), store.made(1, 70, 8))


@pytest.mark.parametrize(
    ("ours", "expected", "apart"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 0.0),
        ([[1.0, 2.5]], [[1.0, 2.0]], 0.5),
        ([[1.0, 2.0]], [[1.0, 2.0, 0.0]], 0.0),  # librosa's zero
        ([[1.0, 2.0]], [[1.0, 2.0, 0.1]], np.inf),
        ([[1.0]], [[1.0, 0.0, 0.0]], np.inf),
        ([[1.0, 2.0, 0.0]], [[1.0, 2.0]], np.inf),
        ([], [[1.0]], np.inf),
    ],
)
def test_audio_compares_all_samples(
    ours: list[list[float]], expected: list[list[float]], apart: float
) -> None:
    arrays = [[np.array(one, np.float32) for one in side] for side in (ours, expected)]
    assert audio.difference(*arrays) == apart


def test_audio_says_where_samples_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audio, "WORKERS", ())
    monkeypatch.setattr(audio, "SMALL_KINDS", [("WAV", 44_100)])
    monkeypatch.setattr(audio, "librosa_way", lambda: audio.soxr_way)
    assert audio.main(["--small"]) == 0
    load = audio.load
    monkeypatch.setattr(
        audio, "load_way", audio.one_by_one(lambda clip: load(clip) + np.float32(1e-3))
    )
    assert audio.main(["--small"]) == 1
    assert "NOT ALL WAYS GIVE" in capsys.readouterr().out


def test_precision_counts_what_a_half_precision_loses(tmp_path: Path, capsys) -> None:
    recipe = precision.load_recipe(precision.DEMO)
    for name, n in ((precision.FULL, 70), ("float16", 69)):
        store.write(tmp_path / name / "toy" / "demo" / "toy.h5", n, 2, 8)
    assert precision.compare("toy", recipe, tmp_path, "float16") == 1
    store.write(tmp_path / "bfloat16" / "toy" / "demo" / "toy.h5", 70, 2, 8)
    assert precision.compare("toy", recipe, tmp_path, "bfloat16") == 0
    assert "| toy | 1 | bfloat16 | 0.0e+00 | 0.0e+00 |" in capsys.readouterr().out
