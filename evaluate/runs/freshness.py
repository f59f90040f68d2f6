"""Whether what lies there is what would be made now."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.runs.files import file_hash, fingerprint, plain, read_run
from evaluate.runs.folders import (
    INNER,
    PREDICTIONS,
    fusion_folder,
    run_folder,
)
from features.common.errors import RunError
from features.common.files import (
    Stamp,
    file_stamp,
)
from features.common.folders import Folders
from features.recipe.member import Member

if TYPE_CHECKING:
    from features.recipe.model import Recipe


HEADS_NUMERICS = 3
"""Raised with every change that can move a prediction of a head."""

FUSION_NUMERICS = 3
"""Raised with every change that can move a fused prediction."""

SUBSETS_NUMERICS = 2
"""Raised with every change that can move the choice of a subset, or a score of it."""


def is_fresh(folder: str | Path, inputs: Mapping[str, Any], outputs: Sequence[str]) -> bool:
    """Say whether a run was finished with these inputs and all its outputs are there."""
    record = read_run(folder)
    return (
        record is not None
        and record.get("fingerprint") == fingerprint(inputs)
        and all((Path(folder) / name).is_file() for name in outputs)
    )


def head_settings(recipe: Recipe, member: Member) -> dict[str, Any]:
    """What the run of a head depends on in the recipe and the program.

    Parameters
    ----------
    recipe : Recipe
    member : Member

    Returns
    -------
    dict
    """
    weights = recipe.weights_of(member.model)
    return {
        "numerics": HEADS_NUMERICS,
        "model": member.model,
        **({"weights": weights} if weights is not None else {}),
        "layer": member.layer,
        "head": recipe.head_of(member.head).model_dump(mode="json", exclude={"layer", "models"}),
        "split": recipe.split.settings(),
        "target": recipe.target,
        "targets": list(recipe.targets),
        "labels": list(recipe.labels) if recipe.labels else None,
        "label_maps": recipe.label_maps,
    }


def train_inputs(recipe: Recipe, member: Member, stores: Path) -> dict[str, Any]:
    """What the run of a head depends on: settings, tables and stores.

    Parameters
    ----------
    recipe : Recipe
    member : Member
        Its model is one of the recipe's.
    stores : Path

    Returns
    -------
    dict
        JSON-able.

    Raises
    ------
    CorpusError, StoreError
        Where a table or a store is missing.
    """
    from features.recipe.extract import model_parts
    from features.recipe.head import speaker_model
    from features.splits.emobox import emobox_hash
    from features.stores.seen import source_of

    head = recipe.head_of(member.head)
    of_speakers = speaker_model(head)
    corpora: dict[str, dict[str, Any]] = {}
    for corpus in recipe.corpora:
        identities = {}
        for part in model_parts(member.model):
            identities[part] = source_of(Path(stores), corpus, part, head.in_time).identity
        corpora[corpus] = {
            "table": hash_of_table(Path(stores) / corpus),
            "store": identities if len(identities) > 1 else identities[member.model],
        }
        if of_speakers:
            means = source_of(Path(stores), corpus, of_speakers)
            corpora[corpus]["speakers"] = means.identity
    inputs = {**head_settings(recipe, member), "corpora": corpora}
    if recipe.split.emobox is not None:
        root, names = Path(recipe.split.emobox).expanduser(), recipe.split.emobox_names
        lists = {corpus: emobox_hash(root, corpus, names.get(corpus)) for corpus in recipe.corpora}
        inputs["emobox"] = lists
    return inputs


def hash_of_table(folder: Path) -> str:
    """Hash what a head, or a group of rows, can depend on in the table of a folder.

    Raises
    ------
    CorpusError
        Where it is missing or damaged.
    """
    files = [folder / f"utterances.{suffix}" for suffix in ("csv", "json")]
    return _cached_hash(folder.absolute(), tuple(file_stamp(file) for file in files))


@functools.lru_cache
def _cached_hash(folder: Path, stamps: tuple[Stamp | None, ...]) -> str:
    """Hash a table once for all models that ask: seconds each for the largest corpora."""
    from features.utterances import read_table, table_hash

    return table_hash(read_table(folder))


def fusion_inputs(recipe: Recipe, name: str, folders: Folders) -> dict[str, Any]:
    """What a combination depends on: its settings and its members' predictions.

    Raises
    ------
    RunError
        Where a member's run is missing, or was made with other settings, tables or stores.
    """
    check_members(recipe, recipe.fusion[name].members, f"fusion {name}", folders)
    return fusion_settings(recipe, name, folders.runs)


def train_command(recipe: Recipe, member: Member) -> str:
    """The command that makes the run of a member."""
    head = f" HEAD={member.head}" if member.head else ""
    return f"make train RECIPE={recipe.path} MODEL={member.model}{head}"


def check_members(recipe: Recipe, members: Sequence[str], what: str, folders: Folders) -> None:
    """Refuse runs that are missing, or were made with other settings, tables or stores.

    Parameters
    ----------
    recipe : Recipe
    members : sequence of str
        Runs of models, `<model>[@<layer>]`.
    what : str
        Who needs them, as the error names it.
    folders : Folders

    Raises
    ------
    RunError
        Naming the first, and `what` needs it.
    """
    stores = folders.need_stores()
    for name in members:
        member = Member.parse(name)
        folder = run_folder(folders.runs, recipe.name, member)
        again = f"run {train_command(recipe, member)}"
        if read_run(folder) is None:
            raise RunError(f"{what}: {name} has no finished run in {folder}; {again}")
        if not is_fresh(folder, train_inputs(recipe, member, stores), (PREDICTIONS, INNER)):
            raise RunError(
                f"{what}: the run of {name} in {folder} is stale: the recipe, the table "
                f"or the store has changed since; {again}"
            )


def fusion_settings(recipe: Recipe, name: str, runs: Path) -> dict[str, Any]:
    """What a combination depends on; a member without a file has null for its hash."""
    spec = recipe.fusion[name]
    return {
        "numerics": FUSION_NUMERICS,
        "fusion": spec.model_dump(mode="json"),
        "members": _member_hashes(recipe, spec.members, runs),
    }


def subsets_settings(recipe: Recipe, runs: Path) -> dict[str, Any]:
    """What the choice of subsets depends on; a member without a file has null for its hash.

    Parameters
    ----------
    recipe : Recipe
    runs : Path

    Returns
    -------
    dict
        JSON-able.

    Raises
    ------
    ValueError
        The recipe has no `[fusion.subsets]`.
    """
    spec = recipe.subsets
    if spec is None:
        raise ValueError(f"{recipe.path}: no [fusion.subsets]")
    return {
        "numerics": [FUSION_NUMERICS, SUBSETS_NUMERICS],
        "subsets": spec.settings(),
        "evaluate": recipe.evaluate.model_dump(mode="json", exclude={"show"}),
        "members": _member_hashes(recipe, spec.members, runs),
    }


def _member_hashes(
    recipe: Recipe, members: Sequence[str], runs: Path
) -> dict[str, dict[str, str | None]]:
    hashes = {}
    for member in members:
        paths = [run_folder(runs, recipe.name, member) / name for name in (PREDICTIONS, INNER)]
        hashes[member] = {p.name: file_hash(p) if p.is_file() else None for p in paths}
    return hashes


def is_stale(recipe: Recipe, kind: str, member: str, runs: Path, record: Mapping[str, Any]) -> bool:
    """Say whether a finished run was made with another recipe, without looking at stores.

    Parameters
    ----------
    kind : "model" or "fusion"
    member : str
        The run's folder name.
    record : mapping
        Its `run.json`.

    Returns
    -------
    bool
    """
    if kind == "fusion":
        now = fusion_settings(recipe, member, runs)
        for run in recipe.fusion[member].members:
            under = read_run(run_folder(runs, recipe.name, run))
            if under is not None and is_stale(recipe, "model", run, runs, under):
                return True
    else:
        now = head_settings(recipe, Member.parse(member))
        if set(record["inputs"]["corpora"]) != set(recipe.corpora):
            return True
    apart = ("corpora", "emobox")  # of tables, stores and lists
    then = {key: value for key, value in record["inputs"].items() if key not in apart}
    return bool(then != plain(now))


def finished_run(recipe: Recipe, kind: str, member: str, runs: Path) -> dict[str, Any]:
    """The `run.json` of a run that today's recipe says, too; stores are not looked at.

    Parameters
    ----------
    kind : "model" or "fusion"
    member : str
        The run's folder name.

    Returns
    -------
    dict

    Raises
    ------
    RunError
        It is missing or unfinished, or was made with other settings.
    """
    model = kind == "model"
    folder = (run_folder if model else fusion_folder)(runs, recipe.name, member)
    again = f"run make {'train' if model else 'fuse'} RECIPE={recipe.path}"
    record = read_run(folder)
    if record is None:
        raise RunError(f"{folder}: no finished run of {member}; {again}")
    if is_stale(recipe, kind, member, runs, record):
        raise RunError(
            f"{folder}: the run of {member} was made with other settings than {recipe.path} has "
            f"now; {again}, or go back to those settings"
        )
    return record


def new_inputs(recipe: Recipe, member: str, corpus: str, folders: Folders) -> dict[str, Any]:
    """What the predictions of new audio depend on: the run that predicts, the audio, its features.

    Parameters
    ----------
    recipe : Recipe
    member : str
        The run that predicts.
    corpus : str
        What the new audio is called among the stores.
    folders : Folders

    Returns
    -------
    dict
        JSON-able.

    Raises
    ------
    CorpusError, StoreError
        There is no table of the audio, or no store.
    """
    from features.recipe.extract import model_parts
    from features.stores.seen import source_of
    from features.utterances import read_table, table_hash

    stores, run = folders.need_stores(), Member.parse(member)
    kind = recipe.head_of(run.head).in_time
    identities = {
        part: source_of(stores, corpus, part, kind).identity for part in model_parts(run.model)
    }
    return {
        "run": file_hash(run_folder(folders.runs, recipe.name, member) / "run.json"),
        "audio": table_hash(read_table(stores / corpus), ["path", "audio_hash"]),
        "stores": identities,
    }
