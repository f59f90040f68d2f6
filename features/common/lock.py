"""One writer a store, on any file system: a file that names the holder, with a heartbeat.

Conventions
-----------
- The file is made with O_EXCL and holds JSON: host, pid, since, started (ticks since
  boot), token (of this taking). Its holder touches it every minute.
- A lock of this host counts as left behind when its process is gone; one of another host (or
  unreadable) when it was not touched for ten minutes by the file server's own clock.
- HDF5's file locking is not used: network file systems often lack it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from features.common.errors import StoreError
from features.common.files import IrregularFileError, process_lives, read_bytes, reason_of
from features.common.telling import Tell, aside

HEARTBEAT_S = 60.0
DEAD_AFTER_S = 600.0
LOOK_EVERY_S = 1.0
FILL_S = 0.5
"""A kill between creation and writing leaves an empty lock; a live writer fills it before this."""
LOCK_BYTES = 1 << 16
"""Most that is read of a lock."""
BLINK_S = 0.2
"""Another process that looks for a dead holder may move the file aside and back."""


class WriterLock:
    """Hold a store against other writers, of this machine or another.

    Parameters
    ----------
    path : Path
        `<model>.lock`.
    wait : bool
        Wait for another holder instead of raising.
    take : bool
        Take the lock whoever holds it: for users who know that the holder is gone.
    warn : callable
        Hears whom it waits for.

    Attributes
    ----------
    text : str
        What the file holds while the lock is ours; empty before.

    Raises
    ------
    StoreError
        Another process holds it (host, pid and since when are named), or it cannot be written.
    """

    def __init__(
        self, path: Path, *, wait: bool = False, take: bool = False, warn: Tell = aside
    ) -> None:
        self.path, self._wait, self._take, self._warn = path, wait, take, warn
        self.text = ""
        self._released = threading.Event()
        self._heart: threading.Thread | None = None
        self._lost = False

    def __enter__(self) -> WriterLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        said = False
        while not self._made():
            holder = self._live_holder()
            if holder is None:
                continue
            if not self._wait:
                raise StoreError(
                    f"{self.path}: held by {holder}; wait for it (make extract WAIT=1 does), or, "
                    f"if that process is gone, take the lock with make extract BREAK_LOCK=1"
                )
            if not said:
                self._warn(f"{self.path}: held by {holder}; waiting")
                said = True
            time.sleep(LOOK_EVERY_S)
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        if self._heart is not None:
            self._heart.join()
        if _says(self.path, self.text):
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def check(self) -> None:
        """Ask before a write whether the store is still ours.

        Raises
        ------
        StoreError
            Another process has taken the lock, or it was deleted: this one slept too long.
        """
        if self._lost:
            raise _lost(self.path)
        check_held(self.path, self.text)

    def _made(self) -> bool:
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "started": _started(os.getpid()),
            "token": uuid.uuid4().hex,
        }
        text = json.dumps(record)
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreError(reason_of(self.path, error, len(text))) from None
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise StoreError(reason_of(self.path, error, len(text))) from None
        self.text = text
        return True

    def _live_holder(self) -> str | None:
        """Who holds the lock; None where nobody does any more, and the file is gone."""
        try:
            held, touched_s = read_bytes(self.path, LOCK_BYTES), self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        age_s = self._now() - touched_s
        told = _told(held, age_s)
        if told is None:
            if age_s < FILL_S and not self._take:
                time.sleep(FILL_S)
            else:
                self._remove(held)
            return None
        holder, lives = told
        if not lives or self._take:
            self._take = False
            self._remove(held)
            return None
        return holder

    def _now(self) -> float:
        """The file server's clock, which dates the heartbeats."""
        probe = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _remove(self, held: bytes) -> None:
        """Remove the lock that says `held`; another's, taken meanwhile, is put back."""
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if read_bytes(aside, LOCK_BYTES) != held:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            if not _says(self.path, self.text):
                self._lost = True
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)


def live_holder(path: Path) -> str | None:
    """Who holds a lock, by a look that changes nothing; None where nobody does.

    The age of another host's lock is by this machine's clock.

    Parameters
    ----------
    path : Path
        The lock's file.

    Returns
    -------
    str or None
        Host, process and since when, for people.

    Raises
    ------
    OSError
        It cannot be read.
    """
    try:
        held, age_s = read_bytes(path, LOCK_BYTES), time.time() - path.stat().st_mtime
    except (FileNotFoundError, IrregularFileError):
        return None
    told = _told(held, age_s)
    if told is None:
        return "a process that has just begun" if age_s < FILL_S else None
    holder, lives = told
    return holder if lives else None


def _told(held: bytes, age_s: float) -> tuple[str, bool] | None:
    """Whom a lock names, and whether they live; None where it names nobody."""
    try:
        record = json.loads(held)
        host, pid, since = str(record["host"]), int(record["pid"]), str(record["since"])
    except (ValueError, KeyError, TypeError):
        return None
    here = host == socket.gethostname()
    lives = _alive(pid, record.get("started")) if here else age_s <= DEAD_AFTER_S
    return f"process {pid} on {host} since {since}", lives


def check_held(path: Path, text: str) -> None:
    """Ask before a write whether a lock still says `text`; a worker of its holder may ask, too.

    Raises
    ------
    StoreError
        Another process has taken the lock, or it was deleted.
    """
    if not _says(path, text):
        raise _lost(path)


def _lost(path: Path) -> StoreError:
    return StoreError(
        f"{path}: lost to another process while this one stood still; what is sealed is kept: run "
        f"the same command again"
    )


def _says(path: Path, text: str) -> bool:
    for pause_s in (BLINK_S, 0.0):
        with contextlib.suppress(OSError):
            if text and read_bytes(path, LOCK_BYTES) == text.encode():
                return True
        time.sleep(pause_s)
    return False


def _alive(pid: int, started: str | None) -> bool:
    """Whether a process of this host lives, and is the one that started then."""
    if not process_lives(pid):
        return False
    state = _stat(pid)
    # Killed, but its parent has not looked yet: it writes no more.
    if state and state[0] in ("Z", "X"):
        return False
    return not (started and state and _started(pid) != started)


def _started(pid: int) -> str:
    """When a process started, in ticks since boot: tells it from a later one of the same number."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat behind the name: state first; empty where there is no /proc."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return []
