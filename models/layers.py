"""Which layer: the runs of a sweep, and the layer that every fold chooses for itself.

Conventions
-----------
- `best` is made of the runs of all stored layers. In each outer fold the layer is that whose chosen
  cell scored highest on the inner folds (or devel) of that fold, the lowest layer where scores tie;
  its predictions of the fold are those of `best`. The held-out rows have no say.
- With predefined partitions and `inner = "devel"` it is chosen on devel: its devel scores are
  optimistic as those of any cell are, its test scores are not.
- The saved head is that of the layer chosen over all rows.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluate.runs import record as files
from evaluate.runs.files import read_run, versions
from evaluate.runs.folders import ALL, INNER, PREDICTIONS, SCORES, SEARCH
from evaluate.runs.freshness import train_command, train_inputs
from evaluate.runs.predictions import read_predictions, write_predictions
from features.common.errors import RunError
from features.common.files import read_csv, write_text
from features.recipe.extract import model_parts
from features.recipe.head import HeadSpec
from features.recipe.known.heads import HEADS
from features.recipe.member import BEST, Member
from features.recipe.model import Recipe
from features.stores.seen import source_of
from models.outputs import copy_head
from models.train import Training


def work_of(recipe: Recipe, stores: Path, *, sweep: bool = False) -> list[Member]:
    """The runs that a recipe asks for, each behind those that it is made of.

    Parameters
    ----------
    recipe : Recipe
    stores : Path
    sweep : bool
        Also every stored layer, their mean, a weighting of them and the best, of single models.

    Returns
    -------
    list of Member

    Raises
    ------
    StoreError
        Of "best" and of sweeps, where a store is missing.
    """
    work: dict[Member, None] = {}
    for model, (name, head) in product(recipe.models, recipe.by_head.items()):
        if not head.takes(model):
            continue
        layers = head.layers
        single = len(model_parts(model)) == 1 and not HEADS[head.kind].all_layers
        swept = BEST in layers or (sweep and single)
        stored = stored_layers(recipe, model, stores, head) if swept else []
        if sweep and len(stored) > 1:
            mean = [] if head.on_frames else ["mean"]
            weighted = [] if HEADS[head.kind].neural else ["weighted"]
            layers = [*layers, *mean, *weighted, BEST]
        if BEST in layers:
            layers = [*stored, *(layer for layer in layers if layer != BEST), BEST]
        work |= dict.fromkeys(Member(model, layer, name) for layer in layers)
    return list(work)


def stored_layers(recipe: Recipe, model: str, stores: Path, head: HeadSpec) -> list[int]:
    """The layers that a head can be fitted on, by the recipe's first corpus."""
    first = next(iter(recipe.corpora))
    return list(source_of(stores, first, model, head.in_time).layers)


def run_member(training: Training, member: Member) -> Path:
    """One run of `work_of`: as `models.train.Training.train`, of "best", too.

    Parameters
    ----------
    training : Training
    member : Member

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    RunError
        Of "best", where the run of a stored layer is missing or stale.
    """
    if member.layer != BEST:
        return training.train(member)
    recipe, stores = training.recipe, training.folders.need_stores()
    folder = training.folder(member)
    if not training.force and training.is_done(member):
        training.tell(f"{member}: nothing to do")
        return folder
    start = time.monotonic()
    folders = {}
    head = recipe.head_of(member.head)
    for layer in stored_layers(recipe, member.model, stores, head):
        stored = replace(member, layer=layer)
        folders[layer] = training.folder(stored)
        if not training.is_done(stored):
            raise RunError(
                f"{member}: the run of {stored} is missing or stale; run "
                f"{train_command(recipe, member)}"
            )
    record = assemble(member, folders, folder)
    files.write_run(
        folder,
        {
            **record,
            "inputs": train_inputs(recipe, member, stores),
            "layer": BEST,
            "recipe": recipe.of_head(member.head).resolved(),
            "versions": versions(),
            "seconds": {"all": time.monotonic() - start},
        },
    )
    training.tell(f"{record['title']}: {files.chosen_text(record['chosen_layers'])}")
    return folder


def assemble(member: Member, folders: dict[int, Path], folder: Path) -> dict[str, Any]:
    """Write the predictions, the inner ones, the search table and the head of the chosen layers.

    Parameters
    ----------
    member : Member
        The best.
    folders : dict
        Layer -> folder of its finished run, in ascending order.
    folder : Path
        Of the run of the best.

    Returns
    -------
    dict
        Of `run.json`, what the runs have in common with `chosen_layers` (fold -> layer) and
        `layer_scores` (fold -> layer -> selection score).

    Raises
    ------
    RunError
        The layers' runs are not of the same rows, or a file cannot be read or written.
    """
    records = {layer: read_run(at) or {} for layer, at in folders.items()}
    scores: dict[str, dict[int, float]] = {}
    for layer, record in records.items():
        for fold, cells in record["chosen"].items():
            found = [np.nan if cell["score"] is None else cell["score"] for cell in cells]
            scores.setdefault(fold, {})[layer] = float(np.mean(found))
    chosen = {fold: _highest(fold, by_layer) for fold, by_layer in scores.items()}
    (folder / "run.json").unlink(missing_ok=True)
    (folder / SCORES).unlink(missing_ok=True)
    for name in (PREDICTIONS, INNER):
        parts, order = [], None
        for layer, at in folders.items():
            rows = read_predictions(at / name)
            keys = pd.MultiIndex.from_frame(rows[["corpus", "utterance", "partition", "fold"]])
            order = keys if order is None else order
            if not keys.equals(order):
                raise RunError(
                    f"{at / name}: other rows than those of the other layers; train anew"
                )
            parts.append(rows[rows["fold"].map(chosen) == layer])
        write_predictions(folder / name, pd.concat(parts).sort_index(kind="stable"))
    tables = []
    for layer, at in folders.items():
        table = read_csv(at / SEARCH)
        table.insert(1, "layer", str(layer))
        table["chosen"] = [
            str(mark == "True" and chosen[fold] == layer)
            for mark, fold in zip(table["chosen"], table["fold"], strict=True)
        ]
        tables.append(table)
    table = pd.concat(tables).sort_values("fold", kind="stable")
    write_text(folder / SEARCH, table.to_csv(index=False, lineterminator="\n"), RunError)
    final = chosen[ALL if ALL in chosen else next(iter(chosen))]
    copy_head(folders[final], folder)
    common = records[final]
    title = common["title"].removesuffix(replace(member, layer=final).tag)
    return {
        **{key: common[key] for key in _COMMON if key in common},
        "title": title + member.tag,
        "chosen": {fold: records[layer]["chosen"][fold] for fold, layer in chosen.items()},
        "chosen_layers": chosen,
        "layer_scores": scores,
        "layers": [final],
        "fits": sum(record["fits"] for record in records.values()),
    }


_COMMON = ("stage", "model", "head", "split", "seeds", "stores", "corpora", "columns", "lacking",
           "notes", "engine", "device", "fit_warnings")  # fmt: skip


def _highest(fold: str, scores: dict[int, float]) -> int:
    known = {layer: score for layer, score in scores.items() if not np.isnan(score)}
    if not known:
        raise RunError(f"fold {fold}: no layer has a score to be chosen by; train anew")
    return max(known, key=lambda layer: known[layer])
