"""What lies in a run's folder, and whether it still holds.

Conventions
-----------
- `runs/<recipe>/<member>/` holds the run of a head, `runs/<recipe>/fusion/<name>/` that of a
  combination. A *member* is named as `features.recipe.member` says: `mfcc`, `xlsr-1b@12@svm`.
- The protocols beside the main one (`[split] also`) have recipes of their own, named
  `<recipe>/protocols/<protocol>`: `runs/<recipe>/protocols/<protocol>/<model>/`. How they compare
  with the main one is in `runs/<recipe>/protocols/gaps.json`.
- So have its repeats (`[split] seeds`), named `<recipe>/protocols/seed-<seed>`; what they give
  together is in `runs/<recipe>/protocols/seeds.json`.
- `runs/<recipe>/predict/<corpus>/<member>/` holds what a head says of new audio, the truths empty.
- `runs/<recipe>/statistics.json` compares the runs of a recipe with one another,
  `runs/<recipe>/spread.json` sums up those that subsets are chosen from.
- Files appear whole or not at all, and `run.json` is written last: a folder without it is an
  unfinished run.
- A run is fresh while the `fingerprint` in its `run.json` equals that of what it depends on now.
- In predictions every text column is plain text ("" where unknown); numbers read back to the same
  float64; a masked truth is NaN (empty in the file). In JSON, NaN is null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.runs.files import file_hash, fingerprint, read_run, write_json
from evaluate.runs.folders import (
    ALL,
    INNER,
    PREDICTIONS,
    SEARCH,
    SUBSETS,
)
from features.common.errors import OutdatedError
from features.common.files import (
    read_csv,
)
from features.common.words import counted

if TYPE_CHECKING:
    from features.recipe.model import Recipe


def chosen_text(chosen: Mapping[str, int]) -> str:
    """Say which layers the folds of a run chose, the most frequent first.

    Parameters
    ----------
    chosen : mapping
        Fold -> layer.

    Returns
    -------
    str

    Examples
    --------
    >>> chosen_text({"a": 3, "b": 7, "c": 7, "all": 3})
    'layer 7 (2 folds), 3 (1 fold); over all rows layer 3'
    >>> chosen_text({"": 5})
    'layer 5'
    """
    own = [layer for fold, layer in chosen.items() if fold != ALL]
    if len(own) == 1:
        text = f"layer {own[0]}"
    else:
        counts = Counter(sorted(own)).most_common()
        text = "layer " + ", ".join(f"{i} ({counted(n, 'fold')})" for i, n in counts)
    return text + (f"; over all rows layer {chosen[ALL]}" if ALL in chosen else "")


def write_run(folder: str | Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, which finishes a run.

    `record["inputs"]` is what the run depends on (`train_inputs`, `fusion_inputs`); its
    fingerprint is stored beside it, and so are the hashes of its predictions (`outputs`).

    Parameters
    ----------
    folder : path
        The predictions are there.
    record : mapping
    """
    paths = [Path(folder) / name for name in (PREDICTIONS, INNER, SUBSETS)]
    whole = {
        **record,
        "outputs": {path.name: file_hash(path) for path in paths if path.is_file()},
        "fingerprint": fingerprint(record["inputs"]),
    }
    write_json(Path(folder) / "run.json", whole)


def changed_outputs(folder: str | Path, record: Mapping[str, Any]) -> list[str]:
    """The files of a finished run that are not as it wrote them: somebody changed them since.

    Parameters
    ----------
    record : mapping
        Its `run.json`; of a run that recorded no hashes nothing is known.
    """
    paths = {Path(folder) / name: hash_ for name, hash_ in record.get("outputs", {}).items()}
    return [
        str(path) for path, hash_ in paths.items() if path.is_file() and file_hash(path) != hash_
    ]


def outdated(path: Path, recipe: Recipe) -> OutdatedError:
    """The error of scores that are missing, or older than what they are of."""
    return OutdatedError(f"{path}: missing or outdated; run make score RECIPE={recipe.path}")


def chosen_on_devel(folder: str | Path) -> bool:
    """Whether settings of a run's head, or of a member's, were chosen on its devel rows.

    With `inner = "devel"`, where there was a choice: of several cells, or several layers.

    Parameters
    ----------
    folder : path
        Of a run; those of a fusion's members are beside it.

    Returns
    -------
    bool
    """
    folder = Path(folder)
    record = read_run(folder) or {}
    if "members" in record:
        return any(chosen_on_devel(folder.parents[1] / member) for member in record["members"])
    if record.get("recipe", {}).get("split", {}).get("inner") != "devel":
        return False
    if any(len(scores) > 1 for scores in record.get("layer_scores", {}).values()):
        return True
    path = folder / SEARCH
    return path.is_file() and len(set(read_csv(path)["cell"])) > 1
