"""The demo corpus: synthesised speech in the ComParE layout, for trying the whole job out.

The sentences are spoken by espeak-ng; nine "emotion shares" a row steer pitch, energy, timing and
spectrum by rules (`plan`), so that there is something to predict. Nothing here is emotional speech
of people, and no figure on it says how a model does on such speech.
`python -m features.corpora.demo ROOT` makes it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from features.common.errors import UserError
from features.common.files import read_bytes, read_text
from features.corpora.base import Corpus
from features.corpora.compare import ABOUT_SPEAKERS, LAYOUT, TARGETS, counts, read_compare
from features.corpora.demo.plan import PARTITIONS, VERSION, plan

N_SPEAKERS = 50
STAMP = "demo.json"

DEMO = Corpus(
    key="demo",
    title="synthesised speech (espeak-ng), not emotional speech of people",
    labels={},
    targets=TARGETS,
    shares=True,
    languages=("en", "es", "de"),
    licence="MIT as this project; the synthesiser, espeak-ng, is GPL-3.0 and fetched by pip",
    homepage="",
    citation="",
    source="made by `python -m features.corpora.demo ROOT`, which is what `make demo` runs first",
    tree="verified",
    layout=f"{LAYOUT}, made by `python -m features.corpora.demo ROOT`",
    expected=counts(PARTITIONS, speakers=N_SPEAKERS),
    published=False,
    read=read_compare,
)


def synthesise(root: Path, sizes: Sequence[int] = PARTITIONS) -> None:
    """Make the demo corpus below `root`, in a process of its own, unless it is complete there.

    Parameters
    ----------
    root : Path
        A folder that does not exist, is empty, or holds a demo corpus, which is replaced.
    sizes : sequence of int
        How many utterances of train, devel and test; fewer than `PARTITIONS` for a quick try.

    Raises
    ------
    UserError
        If espeak-ng is not installed, or `root` holds something else.
    """
    root = Path(root)
    if is_complete(root, sizes):
        return
    if root.exists() and not (root / STAMP).is_file() and (root.is_file() or any(root.iterdir())):
        raise UserError(
            f"{root}: holds something that is no demo corpus; nothing was written; "
            "remove it or choose another folder"
        )
    making = root.with_name(f".{root.name}.{os.getpid()}.making")
    old = root.with_name(f".{root.name}.{os.getpid()}.old")
    packages = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-m", f"{__name__}.speech", str(making.resolve())]
    try:
        _write_labels(making / "lab", sizes)
        made = subprocess.run(
            [*command, *map(str, sizes)],
            env={**os.environ, "PYTHONPATH": packages},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if made.returncode:
            raise UserError(
                f"{root}: not made: {made.stderr.strip() or f'espeak-ng died ({made.returncode})'}"
            )
        stamp = {"version": VERSION, "sizes": list(sizes), "labels": _hash(making)}
        (making / STAMP).write_text(json.dumps(stamp) + "\n", "utf-8")
        if root.exists():
            root.rename(old)
        making.rename(root)
    finally:
        for folder in (making, old):
            shutil.rmtree(folder, ignore_errors=True)


def is_complete(root: Path, sizes: Sequence[int] = PARTITIONS) -> bool:
    """Tell whether `root` holds what this version makes: its stamp, label files and audio."""
    try:
        stamp = json.loads(read_text(Path(root) / STAMP))
    except (OSError, ValueError):
        return False
    wanted = {"version": VERSION, "sizes": list(sizes), "labels": _hash(Path(root))}
    return stamp == wanted and len(list(Path(root).glob("wav/*.wav"))) == sum(sizes)


def _hash(root: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.glob("lab/*.csv")):
        digest.update(path.name.encode() + read_bytes(path))
    return digest.hexdigest()


def _write_labels(folder: Path, sizes: Sequence[int]) -> None:
    """Write the label files; those of the test rows masked, and unmasked beside them."""
    folder.mkdir(parents=True)
    lines: dict[str, list[list[str]]] = {}
    for utterance in plan(sizes):
        speaker, shares = utterance.speaker, [repr(share) for share in utterance.shares.tolist()]
        masked = ["?"] * len(TARGETS) if speaker.partition == "test" else shares
        lines.setdefault(speaker.partition, []).append([utterance.name, *masked])
        if speaker.partition == "test":
            lines.setdefault("test.unmasked", []).append([utterance.name, *shares])
        about = [utterance.name, speaker.name, speaker.gender, speaker.language]
        lines.setdefault("speakers", []).append(about)
    for name, rows in lines.items():
        header = ABOUT_SPEAKERS if name == "speakers" else TARGETS
        _write_rows(folder / f"{name}.csv", [["filename", *header], *rows])


def _write_rows(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
