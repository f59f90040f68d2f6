"""`python -m extract`: one or more models over the corpora of a recipe, or over other audio."""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from extract import acoustic
from extract.arguments import COMMANDS, SHARED, add_options, models_of
from extract.encoders.description import describe
from extract.encoders.fetch import fetch
from extract.encoders.registry import MODELS, Model, find_model
from extract.encoders.weights import cached_snapshot
from extract.job.compute import load_extractor
from extract.job.device import Machine, device_of, resolve_device
from extract.job.estimate import estimate
from extract.job.run import run
from extract.plan.work import (
    Target,
    Work,
    check_disk,
    disk_free,
    disk_needed,
    make_target,
    plan_work,
    summary,
)
from features.common import workers as cluster
from features.common.command import Subcommand, room_parser, run_chosen, run_command
from features.common.errors import CorpusError, ModelError, RecipeError, StoreError, UserError
from features.common.findings import Finding
from features.common.folders import Folders
from features.common.progress import duration, size
from features.common.telling import aloud
from features.common.words import counted
from features.corpora import read_corpus
from features.corpora.demo import DEMO
from features.corpora.oddities import ODD
from features.new_audio import audio_table, corpus_name, system_of
from features.recipe.arguments import corpus_root, folders_of
from features.recipe.extract import CorpusSpec, ModelSpec, stored_frames, stored_segments
from features.recipe.known.frame_kinds import NONE_OF
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.stores.inventory import compare_rows, shown_source
from features.stores.key import parts_path, store_path
from features.stores.read import Store
from features.survey import Survey, survey
from features.utterances import Table, read_table

REMARK = 72
"""Characters of a remark on a corpus that are shown."""


def main(args: argparse.Namespace) -> int:
    """Plan everything, then extract corpus by corpus and model by model.

    Parameters
    ----------
    args : Namespace

    Returns
    -------
    int
        The exit code: 1 where more utterances failed than are allowed.
    """
    where = cluster.parse(args.cluster) if args.cluster else None
    overrides = {"extract": {"precision": args.precision}} if args.precision else None
    recipe = _recipe(args, overrides)
    if args.audio:
        recipe = _of_system(recipe, args)
    elif args.fusion or args.member:
        raise UserError("--fusion and --member go with --audio; --model names models")
    wanted = ([] if _listed(args) or args.audio else models_of(args)) or recipe.single_models
    imported = _imported(recipe, wanted, args.stores)
    without = [(key, kind) for key in imported for kind in recipe.framewise_of(key)[:1]]
    if without:
        first, kind = without[0]
        raise ModelError(
            f"{', '.join(key for key, _ in without)}: imported features have no {kind}: set "
            f"{NONE_OF[kind]} in [models.{first}], or name the others with MODEL=..."
        )
    models = _models(recipe, [key for key in wanted if key not in imported])
    if args.fetch:
        chosen = [replace(m, hub=None) if spec.path else m for m, spec in models]
        for line in fetch(chosen, args.stores):
            aloud(line)
        return 0
    works = _works(recipe, args, models, imported)
    machine = Machine(args.device, recipe.extract.batch_seconds, args.jobs, recipe.extract.workers)
    if not where:
        _check_device(works, machine, None)
    if args.plan:
        return _plan(works, machine, args.stores)
    for work in works:
        print(work)
    check_disk(works, args.stores)
    sys.stdout.flush()
    computes = any(work.jobs for work in works)
    with cluster.connect(where) if where and computes else contextlib.nullcontext() as workers:
        if workers:
            _check_device(works, machine, workers)
        failed = {
            (work.corpus, utterance)
            for work in works
            for utterance in _finish(work, machine, workers, args)
        }
    # What new audio lacks is named and counted where the rest of it is predicted.
    if len(failed) > args.allow_failures and not args.audio:
        lacking = counted(len(failed), "utterance lacks", "utterances lack")
        print(
            f"{lacking} features; the failures files name each with its "
            f"reason: mend or drop them, or accept them with ALLOW_FAILURES={len(failed)}",
            file=sys.stderr,
        )
        return 1
    return 0


def _works(
    recipe: Recipe,
    args: argparse.Namespace,
    models: list[tuple[Model, ModelSpec]],
    imported: list[str],
) -> list[Work]:
    """What each corpus and model lacks; says what is odd in them.

    Raises
    ------
    UserError
        Of corpora, models or stores.
    """
    folders = folders_of(args)
    if args.audio:
        recipe, tables = _new_audio(recipe, args.audio, imported)
    else:
        tables, faults = _tables(recipe, folders)
        if faults:
            raise CorpusError("\n  ".join([*faults, *_weights_to_fetch(models)]))
    if args.plan:
        for line in _weights_to_fetch(models):
            print(line)
        models = [pair for pair in models if not _is_to_fetch(*pair)]
    targets = _targets(recipe, models)
    works: list[Work] = []
    for corpus, table in tables.items():
        seen = _survey(recipe, corpus, table, folders)
        for target in targets:
            work = plan_work(
                corpus, target, seen, args.stores, force=args.force, verify=args.verify
            )
            for path, damage in work.damages:
                print(f"{path}: damaged: {damage}")
            works.append(work)
        for model in imported:
            print(_describe_import(corpus, model, table, args.stores))
    for target in targets:
        if target.description.remark and any(w.jobs for w in works if w.target is target):
            print(f"{target.title}: {target.description.remark}")
    return works


def _recipe(args: argparse.Namespace, overrides: dict[str, dict[str, str]] | None) -> Recipe:
    """Load the recipe; of registered models that it does not list, say what takes them.

    Raises
    ------
    RecipeError
    """
    try:
        return load_recipe(
            args.recipe,
            models=models_of(args) if _listed(args) else None,
            corpora=args.corpus,
            overrides=overrides,
            settings=args.settings,
        )
    except RecipeError as error:
        others = [
            key for key in models_of(args) if key in MODELS and f"MODEL={key}: not" in str(error)
        ]
        if not others:
            raise
        what = "fetch " if args.fetch else "plan " if args.plan else ""
        raise RecipeError(
            f"{error}\n  registered, though: python -m extract {what}{args.recipe} --model "
            f"{','.join(others)} takes it"
        ) from None


def _listed(args: argparse.Namespace) -> bool:
    return bool(args.listed or args.members)


def _of_system(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe with the models alone that predict: those named, or those of a combination."""
    models = models_of(args) or system_of(recipe, args.fusion).models
    return recipe.model_copy(
        update={"models": {model: recipe.models.get(model, ModelSpec()) for model in models}}
    )


def _new_audio(
    recipe: Recipe, paths: list[str], imported: list[str]
) -> tuple[Recipe, dict[str, Table]]:
    """The recipe over the audio that is named, in the place of its corpora, and the table.

    Raises
    ------
    ModelError
        Features of another program are wanted.
    CorpusError
        As `audio_table`.
    """
    if imported:
        raise ModelError(
            f"{', '.join(imported)}: imported features of another program, which new audio has "
            "none of; name a FUSION= or a MODEL= without them"
        )
    table, root = audio_table(paths)
    for finding in table.findings:
        print(finding.text)
    name = corpus_name(paths)
    corpora = {name: CorpusSpec(root=str(root))}
    return recipe.model_copy(update={"corpora": corpora}), {name: table}


def _check_device(works: list[Work], machine: Machine, workers: cluster.Workers | None) -> None:
    """Ask for the device of neural models before anything is computed; without any, no torch.

    Raises
    ------
    ModelError
        There is no such device.
    """
    neural = any(work.jobs and not work.target.in_decoders for work in works)
    if not neural or machine.device in ("auto", "cpu"):
        return
    if workers is None:
        resolve_device(machine.device)
    else:
        workers.client.submit(resolve_device, machine.device, pure=False).result()


def _plan(works: list[Work], machine: Machine, stores: Path) -> int:
    """Print what each model and corpus would take, and all together; compute nothing for keeps."""
    estimates = []
    for target, group in groupby(sorted(works, key=lambda w: w.target.name), lambda w: w.target):
        extractor = None
        for work in group:
            if extractor is None and not work.idle:
                extractor = load_extractor(target, device_of(machine.device, target))
            estimates.append(estimate(work, machine, extractor, _warn))
            print(estimates[-1], flush=True)
    audio_s, time_s = (
        sum(getattr(estimated, n) for estimated in estimates) for n in ("audio_s", "time_s")
    )
    needed, free = disk_needed(works), disk_free(stores)
    print(
        f"in all: {audio_s:,.0f} s of audio to go through a model, about {duration(time_s)}; "
        f"{size(needed)} of disk at the most, {size(free)} free"
    )
    return 0


def _finish(
    work: Work, machine: Machine, workers: cluster.Workers | None, args: argparse.Namespace
) -> list[str]:
    """Do the work of one model and corpus; return the utterances that failed."""
    idle = work.idle
    if not idle or work.failures:
        work = run(
            work,
            machine,
            workers=workers,
            wait=args.wait,
            break_lock=args.break_lock,
            tell=aloud,
            warn=_warn,
        )
    elif parts_path(work.path).is_dir() or work.path.with_suffix(".lock").exists():
        # A kill behind the last rename has left them; or another process is at work there.
        with contextlib.suppress(StoreError):
            run(work, machine, tell=aloud, warn=_warn)
    if not idle:
        print(summary(work), flush=True)
    return list(work.failures)


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _imported(recipe: Recipe, keys: list[str], stores: Path) -> list[str]:
    """Models that only an import can bring, and that one brought for a corpus of the recipe.

    Raises
    ------
    ModelError
        Other corpora of the recipe lack such a model.
    StoreError
        A store of such a name is damaged.
    """
    found, faults = [], []
    for key in keys:
        spec = recipe.models.get(key, ModelSpec())
        spec = spec.model_copy(update={"frames": None, "segments": None})
        if key in MODELS or spec != ModelSpec():
            continue
        there = []
        for corpus in recipe.corpora:
            path = store_path(stores, corpus, key)
            if path.exists():
                with Store(path) as store:
                    there += [corpus] if store.imported else []
        if not there:
            continue
        found.append(key)
        faults += [
            f"{key} is imported for {', '.join(there)} and not for {corpus}: "
            f"`python -m features import FILE --corpus {corpus} --as {key}` brings it"
            for corpus in recipe.corpora
            if corpus not in there
        ]
    if faults:
        raise ModelError("\n  ".join(faults))
    return found


def _describe_import(corpus: str, model: str, table: Table, stores: Path) -> str:
    """One line on an imported store, which is left alone."""
    with Store(store_path(stores, corpus, model)) as store:
        rows = compare_rows(store.index, table.rows)
        source = shown_source(store.key)
    text = f"{corpus}/{model}: {source}, {rows.n_current} of {counted(rows.n_table, 'utterance')}"
    state = "" if str(rows) == "complete" else f", {rows}; import it again to mend that"
    return f"{text}{state}; nothing to extract"


def _models(recipe: Recipe, keys: list[str]) -> list[tuple[Model, ModelSpec]]:
    """The models to extract: those of the recipe, or any registered one by `--model`."""
    specs = {key: recipe.models.get(key, ModelSpec()) for key in keys}
    found, faults = [], []
    for key, spec in specs.items():
        try:
            found.append((find_model(key, spec), spec))
        except ModelError as error:
            unknown = key not in MODELS and spec == ModelSpec()
            hint = "; features of another program come in by `python -m features import`"
            faults.append(f"{error}{hint if unknown else ''}")
    if faults:
        raise ModelError("\n  ".join(faults))
    return found


def _tables(recipe: Recipe, folders: Folders) -> tuple[dict[str, Table], list[str]]:
    """The tables of the corpora as they lie on disk, and what is wrong with the others."""
    tables, faults = {}, []
    for name, spec in recipe.corpora.items():
        try:
            tables[name] = read_corpus(
                name,
                corpus_root(recipe, name, folders.data),
                reader=spec.reader,
                strict_counts=spec.strict_counts,
                options=recipe.reader_options(name),
            )
        except CorpusError as error:
            made = (spec.reader or name) == DEMO.key
            hint = f"; `make demo RECIPE={recipe.path}` makes it and goes on with the whole job"
            faults.append(f"{error}{hint if made else ''}")
            continue
        for line in _remarks(name, tables[name].findings, _findings(folders.need_stores() / name)):
            print(line)
    return tables, faults


def _findings(folder: Path) -> list[str]:
    """What a corpus's table says that was odd when it was written."""
    try:
        return [finding.text for finding in read_table(folder).findings]
    except CorpusError:
        return []


def _remarks(corpus: str, findings: list[Finding], before: list[str]) -> list[str]:
    """What was found in a corpus and not in its table as it was written before, a short line each.

    Names and labels that are odd, and silent rows, are told each time.
    """
    odd = [f"odd: {corpus}: {finding.text}" for finding in findings if finding.kind in ODD]
    told = [finding.text for finding in findings if finding.kind not in ODD]
    new = [text for text in told if text not in before]
    lines = [f"{corpus}: {textwrap.shorten(text, REMARK, placeholder=' ...')}" for text in new]
    if any(len(text) > REMARK for text in new):
        lines.append(f"{corpus}: `python -m features table {corpus}` says all of it")
    return [*lines, *odd]


def _weights_to_fetch(models: list[tuple[Model, ModelSpec]]) -> list[str]:
    """Say which weights are not here either, without fetching any: the run will not start."""
    lacking = [
        f"{model.key} ({model.hub} at {model.revision or 'its newest revision'})"
        for model, spec in models
        if _is_to_fetch(model, spec)
    ]
    if not lacking:
        return []
    return [
        f"weights not in the Hub's cache: {', '.join(lacking)}; make fetch, or the extraction "
        f"itself, fetches them from https://huggingface.co where there is a network; "
        f"[models.KEY] path = ... names a folder that is read instead"
    ]


def _is_to_fetch(model: Model, spec: ModelSpec) -> bool:
    return bool(model.hub) and not spec.path and cached_snapshot(model) is None


def _targets(recipe: Recipe, models: list[tuple[Model, ModelSpec]]) -> list[Target]:
    """Find the checkpoints, fetching those that are not in the Hub's cache."""
    settings = recipe.extract
    targets, faults = [], []
    for model, spec in models:
        frames: dict[str, Any] = {
            "frames": stored_frames(model.key, spec, settings),
            "frames_dtype": settings.frames_dtype,
            "segments": stored_segments(model.key, spec, settings),
        }
        try:
            if model.kind == "acoustic":
                if spec.context_s is not None:
                    raise ModelError(
                        f"[models.{model.key}] context_s: is of encoders that pad all audio to one "
                        "length; leave it out"
                    )
                targets.append(make_target(model, acoustic.describe(model.key, **frames)))
                continue
            description = describe(
                model,
                spec.path,
                precision=settings.precision,
                layers=settings.layers,
                max_seconds=settings.max_seconds,
                engine=settings.engine,
                context_s=spec.context_s,
                **frames,
            )
            targets.append(make_target(model, description))
        except ModelError as error:
            faults.append(str(error))
    if faults:
        raise ModelError("\n  ".join(faults))
    return targets


def _survey(recipe: Recipe, corpus: str, table: Table, folders: Folders) -> Survey:
    """Look at the audio, write the table with what is found, and say what is odd."""
    root = corpus_root(recipe, corpus, folders.data)
    seen = survey(table, root, folders.need_stores() / corpus)
    for line in _remarks(corpus, seen.findings, []):  # each of them is told each time
        print(line)
    return seen


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    return room_parser(
        "python -m extract",
        "Write the features of speech models, all layers, to HDF5 stores. Asking again computes "
        "only what is new or whose audio has changed.",
        [
            Subcommand(name, main, about, SHARED, partial(add_options, name))
            for name, about in COMMANDS.items()
        ],
        bare="extract",
    )


if __name__ == "__main__":
    raise SystemExit(run_command(run_chosen, parser()))
