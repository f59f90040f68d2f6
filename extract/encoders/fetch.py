"""Weights from the Hub to its cache, with the hashes of what came: afterwards no network is needed.

`stores/weights.json` records what was fetched: model -> source (`org/repo@commit`), folder, time,
the bytes and SHA-256 of every file that is read, and which files the repository does not have.
Fetching again compares what lies in the cache with it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from extract.encoders.registry import Model
from extract.encoders.weights import MAY_BE_THERE, checkpoint_files, complete_snapshot, snapshot
from features.common.errors import ModelError
from features.common.files import write_text
from features.common.progress import size

RECORD = "weights.json"


def fetch(models: Sequence[Model], stores: Path) -> Iterator[str]:
    """Fetch the weights of models from the Hub, and record their hashes.

    Parameters
    ----------
    models : sequence of Model
        Of which those of the Hub are fetched.
    stores : Path
        Where `weights.json` is kept.

    Yields
    ------
    str
        A line or two on each model, when it is there.

    Raises
    ------
    ModelError
        The Hub cannot be reached, or files differ from what was recorded of the same commit.
    """
    path = stores / RECORD
    recorded = _read(path)
    for model in models:
        if model.hub is None:
            yield f"{model.key}: nothing to fetch"
            continue
        folder = snapshot(model)
        source = f"{model.hub}@{folder.name}"
        before = recorded.get(model.key)
        if before is not None and before["source"] != source:
            before = None
        absent = before and before.get("absent")
        if absent is None:
            absent = complete_snapshot(model, folder)
        files = {name: _file(folder / name) for name in checkpoint_files(model.key, folder)}
        if before is not None:
            # What a record that was made without asking the repository cannot know.
            new = () if "absent" in before else set(MAY_BE_THERE) - set(before["files"])
            differ = [
                name
                for name in dict.fromkeys([*before["files"], *files])
                if before["files"].get(name) != files.get(name) and name not in new
            ]
            if differ:
                raise ModelError(
                    f"{model.key}: {folder}: {', '.join(differ)} not as fetched on "
                    f"{before['fetched']} ({path}): delete that folder and fetch again, or delete "
                    f"the record if the change is wanted"
                )
        if before is None or (absent is not None and "absent" not in before):
            recorded[model.key] = {
                "source": source,
                "folder": str(folder),
                "fetched": time.strftime("%Y-%m-%d %H:%M:%S"),
                "files": files,
                **({} if absent is None else {"absent": absent}),
            }
            write_text(path, json.dumps(recorded, indent=1, sort_keys=True) + "\n", ModelError)
        n_bytes = sum(file["bytes"] for file in files.values())
        yield f"{model.key}: {source}, {size(n_bytes)} in {folder}"
        if model.revision is None:
            yield (
                f'  no revision is registered: pin it with [models.{model.key}] revision = "'
                f'{folder.name}"'
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all({"source", "fetched", "files"} <= set(record) for record in content.values()):
            return content
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    raise ModelError(f"{path}: not a record of fetched weights; delete it and fetch again")


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
