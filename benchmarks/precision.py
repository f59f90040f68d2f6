"""What a half precision costs: stores made in bfloat16 and float16 beside one made in float32.

The stores are made by `python -m extract --precision ...`, each in a folder of its own, the heads
by `models.train` with the recipe's head. Two tables in markdown:

- for every layer the relative error of an utterance's embedding, |half - float32| / |float32|, and
  the same error for 1 of the deviation between utterances (root of the mean squared distance from
  the mean utterance, in float32): an error of 1 would hide one utterance behind another. Median
  and worst over the utterances;
- the score of the head on each store, and its difference from the score on float32 with a 95 %
  interval over the same resamples of speakers.

Without `--model` two models with RANDOM weights are measured: `wav2vec2-tiny` on the demo corpus,
and four layers of the width of wav2vec2-base on a few of its utterances, embeddings alone. Random
weights say little about trained ones, whose values spread otherwise and can overflow float16.
`--model KEY --recipe ... --data ... --device cuda` measures real ones, on all utterances of the
recipe's corpora.

The exit code is 1 where a half precision loses utterances that float32 has (values that are not
finite); how large an error may be is not judged.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.common import machine, say
from evaluate.report.tables import entry
from evaluate.runs.folders import PREDICTIONS
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores.score import score_run
from evaluate.statistics import resampling as intervals
from extract import __main__ as extraction
from features.common.folders import Folders
from features.corpora.demo import synthesise
from features.corpora.demo.plan import PARTITIONS
from features.recipe.load import load_recipe
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.stores.key import store_path
from features.stores.read import Store
from models.train import Training

TOP = Path(__file__).resolve().parents[1]
DEMO = TOP / "recipes" / "demo.toml"
FULL, HALVES = "float32", ("bfloat16", "float16")
TINY, WIDE = "wav2vec2-tiny", "base-width"
WIDE_CONFIG: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "conv_dim": [64] * 7,  # those of wav2vec2-base are most of the work, and float16 is slow
}
FEW = (12, 6, 6)
"""Utterances of train, devel and test."""
ANY = 10**9


@dataclass(frozen=True)
class Case:
    """A model, the recipe that names it, where its audio lies, and whether heads are fitted."""

    model: str
    recipe: Path
    data: Path
    heads: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the models that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", action="append", metavar="KEY", help="real weights; repeat")
    parser.add_argument("--recipe", type=Path, default=DEMO, help="of --model; default the demo's")
    parser.add_argument("--data", type=Path, help="of --model; default a synthesised demo corpus")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--stores", type=Path, help="keep stores and runs here, to go on later")
    parser.add_argument(
        "--small", action="store_true", help=f"{TINY} alone, on {sum(FEW)} utterances"
    )
    args = parser.parse_args(argv)
    print(f"{machine('torch', 'transformers', 'numpy')} Device: {args.device}.")
    if not args.model:
        print("RANDOM weights: the figures say little about trained ones.")
    lost: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = args.stores or Path(name)
        cases = list(chosen(args, Path(name)))
        made = []
        for case in cases:
            for precision in (FULL, *HALVES):
                began = time.perf_counter()
                extract(case, folder / precision, precision, args.device)
                say(f"{case.model}, {precision}: {time.perf_counter() - began:.0f} s")
            made.append((case, load_recipe(case.recipe)))
        print(
            "\n| model | layer | precision | relative error, median | worst "
            "| for 1 of the deviation between utterances, median | worst |\n"
            "|---|---|---|---|---|---|---|"
        )
        for case, recipe in made:
            for precision in HALVES:
                if n := compare(case.model, recipe, folder, precision):
                    lost[f"{case.model}, {precision}"] = n
        with_heads = [(case, recipe) for case, recipe in made if case.heads]
        if with_heads:
            print("\n| model | layer | precision | part | score | difference from float32 |")
            print("|---|---|---|---|---|---|")
        for case, recipe in with_heads:
            for layer in recipe.head_of().layers:
                fit(case.model, layer, recipe, folder)
    print()
    for name, n in lost.items():
        print(f"{name}: {n} UTTERANCES LOST")
    if not lost:
        print("No utterance is lost.")
    return 1 if lost else 0


def chosen(args: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """The models of the command line, or those with random weights; their audio is made."""
    if args.model:
        data = args.data or folder / "data"
        if args.data is None:
            synthesise(data / "demo")
        for model in args.model:
            yield Case(model, args.recipe, data)
        return
    synthesise(folder / "data" / "demo", FEW if args.small else PARTITIONS)
    yield Case(TINY, DEMO, folder / "data")
    if not args.small:
        synthesise(folder / "part" / "demo", FEW)
        make_wide(folder / WIDE)
        text = DEMO.read_text(encoding="utf-8")
        ours = f'models = [{{name = "{WIDE}", path = "{folder / WIDE}"}}]'
        listed = next(line for line in text.splitlines() if line.startswith("models = "))
        fused = text.index("[fusion.")
        recipe = folder / "wide.toml"
        recipe.write_text(text[:fused].replace(listed, ours), encoding="utf-8")
        yield Case(WIDE, recipe, folder / "part", heads=False)


def make_wide(folder: Path) -> None:
    """Save random weights of the width of wav2vec2-base, as the Hub would have them."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**WIDE_CONFIG)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def extract(case: Case, stores: Path, precision: str, device: str) -> None:
    """Run `python -m extract` in this process; what it tells goes to standard error."""
    argv = [
        str(case.recipe), "--data", str(case.data), "--stores", str(stores / case.model),
        "--model", case.model, "--precision", precision, "--device", device,
        "--allow-failures", str(ANY),
    ]  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        extraction.main(extraction.parser().parse_args(argv))


def compare(model: str, recipe: Recipe, folder: Path, precision: str) -> int:
    """Print a line for each layer; how many utterances float32 has and the other has not."""
    lost = 0
    for corpus in recipe.corpora:
        named = f"{model}, {corpus}" if len(recipe.corpora) > 1 else model
        paths = [store_path(folder / one / model, corpus, model) for one in (FULL, precision)]
        with Store(paths[0]) as full, Store(paths[1]) as half:
            names = [pd.Index(one.index["utterance"]) for one in (full, half)]
            common = names[0].intersection(names[1])
            lost += len(names[0]) - len(common)
            rows = [one.get_indexer(common) for one in names]
            for layer in full.layers:
                a, b = (
                    store.read(layer, "mean")[at].astype(np.float64)
                    for store, at in zip((full, half), rows, strict=True)
                )
                error = np.linalg.norm(b - a, axis=1)
                relative = error / np.linalg.norm(a, axis=1)
                between = error / np.sqrt(((a - a.mean(axis=0)) ** 2).sum(axis=1).mean())
                print(
                    f"| {named} | {layer} | {precision} | {np.median(relative):.1e} "
                    f"| {relative.max():.1e} | {np.median(between):.1e} | {between.max():.1e} |",
                    flush=True,
                )
    return lost


def fit(model: str, layer: int | str, recipe: Recipe, folder: Path) -> None:
    """Print the scores of a head on each store, and what separates them from float32's."""
    predictions: dict[str, pd.DataFrame] = {}
    scores: dict[str, Any] = {}
    for precision in (FULL, *HALVES):
        with contextlib.redirect_stdout(sys.stderr):
            stores = folder / precision / model
            folders = Folders(stores=stores, runs=stores / "runs")
            run = Training(recipe, folders, allow_failures=ANY).train(Member(model, layer))
            scores[precision] = score_run(run, recipe).partitions
        predictions[precision] = read_predictions(run / PREDICTIONS)
    metric = recipe.shown[0]
    for precision in (FULL, *HALVES):
        for part, one in scores[precision].items():
            cell = entry(one.metrics[metric])
            apart = "-"
            if precision != FULL:
                apart = difference(predictions[FULL], predictions[precision], part, metric, recipe)
            print(
                f"| {model} | {layer} | {precision} | {part} | {metric} {cell.text} {cell.bounds} "
                f"| {apart} |",
                flush=True,
            )


def difference(
    full: pd.DataFrame, half: pd.DataFrame, part: str, metric: str, recipe: Recipe
) -> str:
    """The difference of two scores with its interval; both sides in the same resamples."""
    key = ["corpus", "utterance", "partition", "fold"]
    full, half = (one[one["partition"] == part].set_index(key) for one in (full, half))
    common = full.index.intersection(half.index)
    full, half = full.loc[common], half.loc[common]
    names = predicted_labels(full) or predicted_targets(full)
    known = (
        full["true"] != ""
        if recipe.task == "classification"
        else full[[f"{one}_true" for one in names]].notna().all(axis=1)
    )
    full, half = full[known], half[known]
    corpora = full.index.get_level_values("corpus").to_numpy(object)
    speakers = full["speaker"].to_numpy(object)
    groups = np.where(speakers == "", "", corpora + "/" + speakers)
    resamples = intervals.draw(groups, recipe.evaluate.bootstrap, recipe.evaluate.seed)
    # Every row once in front: the difference itself, by the same formulas.
    counts = np.column_stack([np.ones(len(resamples.counts)), resamples.counts])
    drawn = intervals.Resamples(resamples.unit, counts)
    values = [resampled(one, names, metric, drawn) for one in (full, half)]
    apart = values[1] - values[0]
    bounds = intervals.interval(apart[1:], recipe.evaluate.confidence)
    return f"{apart[0]:+.4f} [{bounds.low:+.4f}, {bounds.high:+.4f}]"


def resampled(
    frame: pd.DataFrame, names: Sequence[str], metric: str, drawn: intervals.Resamples
) -> NDArray[np.float64]:
    """A score in every resample, shape (n_resamples,); of a regression the mean over targets."""
    if "true" in frame:
        labels = frame["true"].to_numpy(), frame["pred"].to_numpy()
        return intervals.classification_resampled(*labels, names, drawn)[metric]
    truth, prediction = (
        frame[[f"{one}_{side}" for one in names]].to_numpy(np.float64) for side in ("true", "pred")
    )
    return intervals.regression_resampled(truth, prediction, drawn)[metric].mean(axis=0)


if __name__ == "__main__":
    raise SystemExit(main())
