"""Write tiny result files of the current version, which later versions must read.

Run from the top of the project with `python -m tests.data.make_records`; never over an older file.
All of them are made from the same predictions, so that those of one version and the next hold the
same numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evaluate.scores import subsets
from evaluate.scores.pairs import make_statistics
from evaluate.scores.protocols import score_protocols
from evaluate.scores.score import FILE, score_all, score_run
from evaluate.scores.seeds import make_seeds
from evaluate.scores.speaker_gains import MAIN, make_gains
from evaluate.scores.spread import make_spread
from features.common.folders import Folders
from features.recipe.model import Recipe
from fusion.subsets.choose import SearchStates, choose, read_data
from tests.evaluate import made

HERE = Path(__file__).parent / "records"
VERSION = FILE.version
EVALUATE = "[evaluate]\nbootstrap = 100\n"
SUBSETS = (
    EVALUATE
    + """
[fusion.subsets]
k = "all"
alone = true
[[published]]
name = "table"
title = "Table"
source = "Someone"
heading = "UAR"
columns = [{ name = "UAR" }]
rows = [{ name = "mean", statistic = "mean", figures = [0.5] }]
"""
)
LABELS = ("anger", "joy", "sadness")


def predictions(right: float, seed: int = 1) -> pd.DataFrame:
    """Rows of two corpora."""
    frame = made.classification(30, seed, right, LABELS)
    frame["corpus"] = ["mine", "yours", "yours"] * 10
    return frame


def with_outer(recipe: Recipe, outer: str, inner: str = "speaker-k-fold") -> Recipe:
    """The same recipe with another split."""
    split = recipe.split.model_copy(update={"outer": outer, "inner": inner})
    return recipe.model_copy(update={"split": split})


def classification(folder: Path) -> Iterator[tuple[str, Path]]:
    """Scores, statistics, subsets, spread, protocols and seeds."""
    recipe = made.recipe(folder, "classification", SUBSETS, "mine yours")
    beside = recipe.split.model_copy(update={"outer": "stratified-holdout"})
    split = recipe.split.model_copy(update={"seeds": [1, 2]})
    recipe = recipe.model_copy(update={"also": {"other": beside}, "split": split})
    others = [recipe, recipe.beside()["other"], *recipe.repeats().values()]
    for seed, of in enumerate(others, 1):
        for member, right in (("one", 0.5), ("two", 0.8), ("mean", 0.7)):
            made.finish(of, folder, member, predictions(right, seed if member == "two" else 1))
    scored = score_all(recipe, Folders(runs=folder))
    make_statistics(recipe, scored, folder)
    make_spread(recipe, scored, folder)
    score_protocols(recipe, Folders(runs=folder))
    make_seeds(recipe, Folders(runs=folder))
    top = folder / recipe.name
    yield "scores", top / "one" / "scores.json"
    yield "statistics", top / "statistics.json"
    yield "spread", top / "spread.json"
    yield "gaps", top / "protocols" / "gaps.json"
    yield "seeds", top / "protocols" / "seeds.json"
    found = choose(recipe, read_data(recipe, folder), SearchStates(folder / "progress.json", "x"))
    subsets.FILE.write(folder / "subsets.json", found)
    yield "subsets", folder / "subsets.json"


def regression(folder: Path) -> Iterator[tuple[str, Path]]:
    """Scores on devel rows that cells were chosen on, and their statistics."""
    recipe = with_outer(made.recipe(folder, more=EVALUATE), "predefined", "devel")
    for member, noise in (("one", 0.3), ("two", 0.9)):
        at = made.finish(recipe, folder, member, made.regression(24, noise=noise))
        (at / "search.csv").write_text("cell\n0\n1\n", encoding="utf-8")
    scored = score_all(recipe, Folders(runs=folder))
    make_statistics(recipe, scored, folder)
    yield "scores-regression", folder / recipe.name / "one" / "scores.json"
    yield "statistics-regression", folder / recipe.name / "statistics.json"


def transfer(folder: Path) -> Iterator[tuple[str, Path]]:
    """Scores of a run over pairs of corpora that was chosen on its own rows."""
    recipe = made.recipe(folder, "classification", EVALUATE, "mine yours")
    recipe = with_outer(recipe, "cross-corpus")
    across = predictions(0.6)
    across["fold"] = across["corpus"].map({"mine": "from yours", "yours": "from mine"})
    within = predictions(0.8).assign(partition="within")
    within = within[within["corpus"] == "mine"]
    frame = pd.concat([across, within])
    at = made.finish(recipe, folder, "one", frame, {"optimistic": True})
    score_run(at, recipe)
    yield "scores-transfer", at / "scores.json"


def grid(folder: Path) -> Iterator[tuple[str, Path]]:
    """Scores of a run over the grid of speakers and sentences."""
    recipe = with_outer(made.recipe(folder, "classification", EVALUATE), "speaker-sentence-grid")
    parts = [
        made.classification(30, right=right, labels=LABELS).assign(partition=name)
        for name, right in (("test", 0.4), ("speaker-seen", 0.8))
    ]
    at = made.finish(recipe, folder, "one", pd.concat(parts))
    score_run(at, recipe)
    yield "scores-grid", at / "scores.json"


def gains(folder: Path) -> Iterator[tuple[str, Path]]:
    """One head against another, speaker by speaker."""
    heads = '[heads.a]\n[heads.b]\n[evaluate]\nbootstrap = 100\ngains = [["a", "b"]]\n'
    recipe = made.recipe(folder, "classification", heads)
    for member, right in (("one@a", 0.5), ("one@b", 0.8)):
        made.finish(recipe, folder, member, made.classification(30, right=right, labels=LABELS))
    make_gains(recipe, {MAIN: score_all(recipe, Folders(runs=folder))}, folder)
    yield "gains", folder / recipe.name / "gains.json"


def main() -> None:
    """Write `records/<kind>-v<version>.json`."""
    for make in (classification, regression, transfer, grid, gains):
        with tempfile.TemporaryDirectory() as name:
            for kind, path in make(Path(name)):
                to = HERE / f"{kind}-v{VERSION}.json"
                if to.exists():
                    raise SystemExit(f"{to} exists; a released file is never rewritten")
                to.write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
