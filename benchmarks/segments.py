"""Networks on frames beside the same networks on segments: what the approximation costs and saves.

EmoDB in whisper-base's third layer, computed on 4 s as `recipes/emodb-whisper.toml` does; frames
and segments come of one extraction. `attention` and `hgfm` are trained on each with the settings of
`recipes/emodb-neural.toml`, the same folds (one speaker is left out at a time) and the same seeds;
columns are brought to mean 0 and deviation 1 over all frames, or segments, of the training side.

A training's time is CPU seconds of the process, the ten folds of a seed trained at once and shared
out, reading and scaling included. UAR is of all held-out rows pooled, the mean over seeds. The
interval of the difference resamples speakers, the same in both, and takes the mean over seeds in
each resample.

    python -m benchmarks.segments --data data --weights data/weights/whisper-base-encoder

The short form has tones of two classes, log-mel frames and two epochs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from benchmarks.common import machine, say, say_short
from evaluate.metrics.metrics import uar
from evaluate.statistics.resampling import classification_resampled, draw, interval
from features.recipe.load import load_recipe
from features.sequences import Sequences, load_sequences
from features.stores.key import frames_path

TOP = Path(__file__).resolve().parents[1]
SOURCES = ("frames", "segments")
SETTINGS: dict[str, dict[str, Any]] = {
    "attention": {"epochs": 10},
    "hgfm": {"epochs": 12, "learning_rate": 1e-3},
}
"""As `recipes/emodb-neural.toml` has them; the classes are balanced."""
RESAMPLES, CONFIDENCE = 1_000, 0.95
RECIPE = """
corpora = ["emodb"]
target = "emotion"
[models.whisper-base]
path = "{weights}"
context_s = 4
[split]
outer = "leave-one-speaker-out"
expect_overlap = ["sentence"]
[extract]
layers = [{layer}]
frames = [{layer}]
segments = {segments}
[head]
kind = "attention"
select = "uar"
"""
SMALL_RECIPE = """
target = "emotion"
[models.log-mel]
[corpora.tones]
reader = "manifest"
[split]
outer = "leave-one-speaker-out"
[extract]
frames = ["last"]
segments = {segments}
[head]
kind = "attention"
select = "uar"
"""


@dataclass(frozen=True)
class Trained:
    """A network on one source.

    Attributes
    ----------
    predictions : list of str arrays, shape (n_rows,)
        Of held-out rows, one a seed.
    seconds : float
        CPU time of a training.
    """

    predictions: list[NDArray[np.str_]]
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Extract, train on both, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="default data")
    parser.add_argument("--weights", type=Path, help="folder of whisper-base's encoder")
    parser.add_argument("--layer", type=int, default=3, help="default 3")
    parser.add_argument("--segments", type=int, default=8, help="default 8")
    parser.add_argument("--seeds", type=int, default=3, help="default 3")
    parser.add_argument("--network", nargs="+", choices=SETTINGS, help="default all")
    parser.add_argument("--stores", type=Path, help="where to extract to; default a temporary one")
    parser.add_argument("--small", action="store_true", help="made tones, two epochs, one seed")
    args = parser.parse_args(argv)
    if not args.small and args.weights is None:
        parser.error("--weights names the folder of whisper-base's encoder")
    with tempfile.TemporaryDirectory(prefix="segments-") as made:
        folder = Path(made)
        recipe_path, model, layer = written(args, folder)
        stores = args.stores or folder / "stores"
        extract(recipe_path, folder / "data" if args.small else args.data, stores)
        recipe = load_recipe(recipe_path)
        both = {
            source: load_sequences(recipe, stores, model, layer, source=source)
            for source in SOURCES
        }
        sizes = {
            source: sum(
                frames_path(stores, c, model, source).stat().st_size for c in recipe.corpora
            )
            for source in SOURCES
        }
        print(
            f"{machine('torch', 'numpy')} {len(both['frames'])} utterances, "
            f"{both['frames'].lengths.sum():,} frames and {both['segments'].lengths.sum():,} "
            f"segments x {both['frames'].n_columns} columns; files {sizes['frames'] / 1e6:.1f} and "
            f"{sizes['segments'] / 1e6:.1f} MB."
        )
        networks = args.network or list(SETTINGS)
        report(both, networks, 1 if args.small else args.seeds, small=args.small)
    say_short(args.small)
    return 0


def written(args: argparse.Namespace, folder: Path) -> tuple[Path, str, int | str]:
    """Write the recipe, and the tones of the short form; give it, its model and layer."""
    path = folder / "segments.toml"
    if args.small:
        make_tones(folder / "data" / "tones")
        path.write_text(SMALL_RECIPE.format(segments=args.segments), encoding="utf-8")
        return path, "log-mel", "last"
    text = RECIPE.format(weights=args.weights.resolve(), layer=args.layer, segments=args.segments)
    path.write_text(text, encoding="utf-8")
    return path, "whisper-base", args.layer


def make_tones(root: Path) -> None:
    """Write 36 tones of three speakers and two classes: rising and falling ones."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    lines = ["path,speaker,emotion"]
    for i in range(36):
        times = np.arange(round(rng.uniform(0.4, 1.2) * 16_000)) / 16_000
        bend = (1 if i % 2 else -1) * 200.0
        samples = 0.3 * np.sin(2 * np.pi * (900 + 50 * (i % 3) + bend * times) * times)
        samples += 0.02 * rng.standard_normal(len(times))
        sf.write(root / f"u{i:02}.wav", samples, 16_000, subtype="PCM_16")
        lines.append(f"u{i:02}.wav,s{i % 3},{'up' if i % 2 else 'down'}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def extract(recipe: Path, data: Path, stores: Path) -> None:
    """Extract frames and segments, of one forward."""
    where = ["--data", str(data.resolve()), "--stores", str(stores.resolve()), "--device", "cpu"]
    command = [sys.executable, "-m", "extract", str(recipe), *where]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the extraction failed:\n{done.stdout}{done.stderr}")


def report(both: dict[str, Sequences], networks: Sequence[str], seeds: int, *, small: bool) -> None:
    """Train networks on both sources, and print a row each."""
    truth, groups = both["frames"].y, both["frames"].groups
    labels = both["frames"].labels
    resamples = draw(groups, RESAMPLES, 0)
    print(
        "\n| network | UAR on frames | on segments | difference (95 %) | CPU s a training, frames "
        "| segments | ratio |\n|---|---|---|---|---|---|---|"
    )
    for network in networks:
        settings = {**SETTINGS[network], **({"epochs": 2} if small else {})}
        found = {}
        for source, sequences in both.items():
            found[source] = train(network, settings, sequences, seeds)
            say(f"{network} on {source}: {found[source].seconds:.1f} CPU s a training")
        scores = {
            source: np.mean([uar(truth, p, labels) for p in trained.predictions])
            for source, trained in found.items()
        }
        resampled = {
            source: np.mean(
                [classification_resampled(truth, p, labels, resamples)["uar"]
                 for p in trained.predictions], axis=0,
            )
            for source, trained in found.items()
        }  # fmt: skip
        within = interval(resampled["segments"] - resampled["frames"], CONFIDENCE)
        low, high = within.low, within.high
        seconds = [found[source].seconds for source in SOURCES]
        print(
            f"| {network} | {scores['frames']:.3f} | {scores['segments']:.3f} | "
            f"{scores['segments'] - scores['frames']:+.3f} ({low:+.3f} to {high:+.3f}) | "
            f"{seconds[0]:.2f} | {seconds[1]:.2f} | {seconds[0] / seconds[1]:.1f} |",
            flush=True,
        )
    n_speakers = len(set(groups))
    print(f"\nSpeakers {n_speakers}, seeds {seeds}, resamples {RESAMPLES:,}.")


def train(network: str, own: dict[str, Any], frames: Sequences, seeds: int) -> Trained:
    """Leave out one speaker at a time, all folds of a seed trained at once."""
    from models.neural import engine
    from models.neural.settings import settings_for
    from models.neural.utterances import moments, scale_of

    settings = settings_for(network, "cross-entropy", **own)
    classes, member = np.unique(frames.y.astype(str), return_inverse=True)
    rows = engine.NeuralRows(frames, np.eye(len(classes), dtype=np.float32)[member])
    speakers = sorted(set(frames.groups))
    predictions, began = [], time.process_time()
    for seed in range(seeds):
        sums, squares = moments(frames)
        fits, held = [], []
        for speaker in speakers:
            train = np.flatnonzero(frames.groups != speaker)
            weights = compute_class_weight(
                "balanced", classes=np.arange(len(classes)), y=member[train]
            )
            inputs = scale_of(
                sums[train].sum(0), squares[train].sum(0), int(frames.lengths[train].sum())
            )
            fits.append(engine.NeuralFit(
                settings, train, seed, str(speaker),
                class_weights=tuple(map(float, weights)), inputs=inputs,
            ))  # fmt: skip
            held.append(np.flatnonzero(frames.groups == speaker))
        predicted = np.empty(len(member), dtype=classes.dtype)
        for result, test in zip(engine.train(rows, fits), held, strict=True):
            if result.failure:
                raise SystemExit(result.failure)
            outputs = result.net.outputs(frames, test)
            predicted[test] = classes[outputs.argmax(1)]
        predictions.append(predicted)
    return Trained(predictions, (time.process_time() - began) / (seeds * len(speakers)))


if __name__ == "__main__":
    raise SystemExit(main())
