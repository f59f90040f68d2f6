"""Folders as users have them: links, loops, pipes, and names in two forms.

Conventions
-----------
- `walk` lists a folder by names, never by the order of the disk. Folders come before links to
  folders: each real folder is listed once, under its own name where it has one here, else under the
  first link by name. A link to the folder itself or to one above it leads nowhere new.
- Links to files are files, under the name of the link: a corpus may be links into a content store.
  Two names of one real file both stay, and are told.
- A link whose end is not there stays, too, where it is named as audio: its row fails by name when
  it is extracted, as every file that cannot be read. Pipes, sockets and devices are no audio.
- Names are compared under NFC. A folder that holds both forms of one name is refused: which of the
  two a label means, nobody can say.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from features.common.errors import CorpusError
from features.common.findings import Finding, finding, some
from features.common.text import clean, nfc
from features.common.words import counted

Identity = tuple[int, int] | str
"""Device and number of a file; of a file system without numbers the resolved path."""


@dataclass
class _Found:
    """What a walk has come across; names are relative to the folder that is walked."""

    suffixes: tuple[str, ...]
    folders: dict[Identity, str] = field(default_factory=dict)
    files: dict[str, Identity | None] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    no_files: list[str] = field(default_factory=list)
    two_forms: list[str] = field(default_factory=list)


def walk(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[str], list[Finding]]:
    """List the files of some suffixes at any depth below a folder; hidden ones are passed over.

    Parameters
    ----------
    folder : Path
        One that is not there has no files.
    suffixes : tuple of str
        In lower case.

    Returns
    -------
    files : list of str
        Relative to `folder`, with `/`, sorted.
    findings : list of Finding
        What was passed over, leads nowhere, or is there twice.

    Raises
    ------
    CorpusError
        A folder holds both forms of one name.
    """
    found = _Found(suffixes)
    try:
        found.folders[identity_of(folder)] = "."
        above = {identity_of(parent) for parent in Path(os.path.realpath(folder)).parents}
    except OSError:
        return [], []
    _walk_real(str(folder), "", found)
    for name in found.links:  # grows while it is gone through
        try:
            identity = identity_of(os.path.join(folder, name))
        except OSError:  # gone since it was listed
            found.dangling.append(name)
            continue
        if identity in above:
            found.again.append(f"{name} (a folder above)")
        elif identity in found.folders:
            found.again.append(f"{name} (is {found.folders[identity]})")
        else:
            found.folders[identity] = name
            _walk_real(str(folder), name, found)
    if found.two_forms:
        raise _two_forms(str(folder), found.two_forms)
    return sorted(found.files), _findings(found)


def _walk_real(root: str, start: str, found: _Found) -> None:
    """List a folder and all real ones below it; links to folders wait in `found.links`."""
    waiting, links = [start], []
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(os.path.join(root, place)) as listing:
                entries = sorted(listing, key=lambda entry: (nfc(entry.name), entry.name))
            device = os.stat(os.path.join(root, place)).st_dev
        except OSError as error:
            found.unreadable.append(f"{place or '.'} ({error.strerror})")
            continue
        below: list[str] = []
        taken: dict[str, list[tuple[str, Identity | None]]] = defaultdict(list)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{place}/{entry.name}" if place else entry.name
            kind, identity = _kind(entry, device)
            is_audio = entry.name.lower().endswith(found.suffixes)
            if kind == "nothing":
                found.dangling.append(name)
                kind = "file"
            if kind == "other" and is_audio:
                found.no_files.append(name)
            if kind in ("folder", "link") or (kind == "file" and is_audio):
                taken[nfc(entry.name)].append((name, identity))
            if kind == "file" and is_audio:
                found.files[name] = identity
            elif kind == "link":
                links.append(name)
            elif kind == "folder" and identity is not None:
                if identity in found.folders:  # mounted a second time
                    found.again.append(f"{name} (is {found.folders[identity]})")
                else:
                    found.folders[identity] = name
                    below.append(name)
        for both in taken.values():
            if len({identity or name for name, identity in both}) > 1:
                found.two_forms += [" and ".join(ascii(name) for name, _ in both)]
            for name, _ in both[1:]:  # a link that makes one file known under both forms
                if found.files.pop(name, None):
                    found.again.append(f"{ascii(name)} (is {both[0][0]!a})")
        waiting += reversed(below)
    found.links += sorted(links)


def _kind(entry: os.DirEntry[str], device: int) -> tuple[str, Identity | None]:
    """What an entry is: `file`, `folder`, `link` (to a folder), `other`, or `nothing`.

    A file that is no link costs no call of its own: 50,000 of them lie on some server.
    """
    try:
        if entry.is_file(follow_symlinks=False):
            return "file", (device, entry.inode()) if entry.inode() else None
        status = entry.stat()
    except OSError:
        return "nothing", None
    identity = identity_of(entry.path, status)
    if stat.S_ISDIR(status.st_mode):
        return "link" if entry.is_symlink() else "folder", identity
    return "file" if stat.S_ISREG(status.st_mode) else "other", identity


def identity_of(path: str | Path, status: os.stat_result | None = None) -> Identity:
    """Tell a file or folder from every other, whatever it is called."""
    status = status or os.stat(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _findings(found: _Found) -> list[Finding]:
    names: dict[Identity, list[str]] = defaultdict(list)
    for name, identity in found.files.items():
        if identity is not None:
            names[identity].append(name)
    twice = [f"{name} (is {forms[0]})" for forms in names.values() for name in forms[1:]]
    return [
        *finding(
            "links-passed-over",
            sorted(found.again),
            "links or folders lead to what is listed already and are passed over",
            "link or folder leads to what is listed already and is passed over",
        ),
        *finding(
            "files-twice",
            sorted(twice),
            "audio files are others by a second name; both stay",
            "audio file is another by a second name; both stay",
        ),
        *finding(
            "links-dangling",
            sorted(found.dangling),
            "links lead to nothing that is there (datalad get, git annex get or a copy brings it)",
            "link leads to nothing that is there (datalad get, git annex get or a copy brings it)",
        ),
        *finding(
            "no-files",
            sorted(found.no_files),
            "pipes, sockets or devices are named as audio and are passed over",
            "pipe, socket or device is named as audio and is passed over",
        ),
        *finding(
            "folders-unreadable",
            sorted(found.unreadable),
            "folders cannot be read and are passed over",
            "folder cannot be read and is passed over",
        ),
    ]


def find_place(root: Path, holds: Callable[[Path], bool], depth: int = 2) -> Path | None:
    """Find the folder that holds what is looked for: `root`, or one at most `depth` below it.

    The nearest one is taken, of several on one level the first by name, real folders before links:
    an archive that was unpacked into a folder of its own name is found like one that was not.

    Parameters
    ----------
    root : Path
    holds : callable
        Whether a folder is the one that is looked for.
    depth : int
        Levels below `root` that are looked at.

    Returns
    -------
    Path or None
        None where no folder holds it.
    """
    level = [root]
    seen: set[Identity] = set()
    for below in range(depth + 1):
        for folder in level:
            if holds(folder):
                return folder
        if below < depth:
            listed = sorted(path for folder in level for path in _folders_in(folder))
            level = []
            for _, path, identity in listed:
                if identity not in seen:
                    seen.add(identity)
                    level.append(Path(path))
            level.sort()
    return None


def _folders_in(folder: Path) -> Iterable[tuple[bool, str, Identity]]:
    """Whether it is a link, path and identity of each folder in another; none where unreadable."""
    try:
        with os.scandir(folder) as entries:
            return [
                (entry.is_symlink(), entry.path, identity_of(entry.path, entry.stat()))
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            ]
    except OSError:
        return []


class Lookup:
    """Finds what a text names on disk, in whichever form it is written there.

    As it is written, composed and decomposed; then by the folder's listing under NFC; then, where
    that is one name alone, by its listing in the clean form, since no-break and doubled blanks get
    lost in spreadsheets.

    Parameters
    ----------
    root : path
        What relative paths are relative to.
    """

    def __init__(self, root: str | Path = "") -> None:
        self._root = str(root)
        self._listings: dict[str, dict[str, list[str]]] = {}

    def __call__(self, path: str) -> str | None:
        """The path as the disk has it; None where nothing is there.

        Raises
        ------
        CorpusError
            A folder on the way holds both forms of the name.
        """
        if path.isascii() and os.path.exists(os.path.join(self._root, path)):
            return path
        found = "/" if path.startswith("/") else ""
        for part in path.split("/"):
            name: str | None = part
            if part not in ("", ".", ".."):
                name = self._name(os.path.join(self._root, found), part)
            if name is None:
                return None
            found = os.path.join(found, name) if name else found
        return found if os.path.exists(os.path.join(self._root, found)) else None

    def file(self, path: str) -> str | None:
        """The same of files alone."""
        found = self(path)
        return found if found and os.path.isfile(os.path.join(self._root, found)) else None

    def _name(self, folder: str, part: str) -> str | None:
        if part.isascii() and os.path.lexists(os.path.join(folder, part)):
            return part
        listing = self._listing(folder)
        for key in (nfc(part), clean(part)):
            names = listing.get(key, [])
            if len(names) > 1 and len({_real(folder, name) for name in names}) > 1:
                if key == nfc(part):
                    raise _two_forms(folder, [" and ".join(ascii(name) for name in names)])
                continue
            if names:
                return part if part in names else names[0]
        # A folder may let itself be entered and not be listed.
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        return next((form for form in forms if os.path.lexists(os.path.join(folder, form))), None)

    def _listing(self, folder: str) -> dict[str, list[str]]:
        """Names by their NFC, and by their clean form where that is another."""
        if folder not in self._listings:
            try:
                names = sorted(os.listdir(folder or "."))
            except (OSError, ValueError):
                names = []
            listing: dict[str, list[str]] = defaultdict(list)
            for name in names:
                for key in {nfc(name), clean(name)}:
                    listing[key].append(name)
            self._listings[folder] = dict(listing)
        return self._listings[folder]


def existing(path: str | Path) -> Path:
    """A path in the form that the disk has it in; as it is where nothing is there."""
    if os.path.exists(path):
        return Path(path)
    return Path(Lookup()(str(path)) or path)


def _real(folder: str, name: str) -> Identity:
    try:
        return identity_of(os.path.join(folder, name))
    except OSError:
        return name


def _two_forms(folder: str, pairs: list[str]) -> CorpusError:
    names = counted(len(pairs), "name stands", "names stand")
    return CorpusError(
        f"{folder.rstrip('/') or '/'}: {names} there in both Unicode forms, composed and "
        f"decomposed: {some(pairs)}; rename or remove one of each"
    )
