"""How far long work is: a line that is redrawn, or lines, ever rarer, where nobody watches."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator

from features.common.command import TELL_AFTER_S

PLAIN_EVERY_S = 60.0
"""Between the first two plain lines; then twice as long each time, up to `PLAIN_AT_LEAST_S`."""
PLAIN_AT_LEAST_S = 300.0

REDRAW_EVERY_S = 0.2


def duration(seconds: float) -> str:
    """Seconds for people.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7322)
    ('4 s', '1:15', '2:02:02')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of ten.

    Examples
    --------
    >>> size(999), size(1_640_000_000)
    ('999 B', '1.6 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


class Progress:
    """Done of total, rate and time left: redrawn on a terminal, else plain lines, ever rarer.

    Parameters
    ----------
    label : str
        What is being done.
    total : float
        In `unit`.
    unit : str
        Such as `"s of audio"` or `"fits"`.
    first_s : float, optional
        When the first plain line comes, in seconds from the start.
    """

    def __init__(self, label: str, total: float, unit: str, first_s: float | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        plain = PLAIN_EVERY_S if first_s is None else first_s
        self._next = self._start + (REDRAW_EVERY_S if self._terminal else plain)
        self._plain_s = PLAIN_EVERY_S
        self._width = 0
        self._now: Callable[[], str] | None = None

    def add(self, amount: float) -> None:
        """Count `amount` more as done, and show it when it is time."""
        self.done += amount
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._pause()
            self._show(self.line(now - self._start))

    @contextlib.contextmanager
    def tell(self, now: Callable[[], str]) -> Iterator[None]:
        """Say what is under way, in a body where little may be done for long.

        Parameters
        ----------
        now : callable
            What is under way, or an empty text; called from another thread.
        """
        over = threading.Event()

        def tick() -> None:
            pause = REDRAW_EVERY_S if self._terminal else TELL_AFTER_S
            while not over.wait(pause):
                if now():
                    self._show(self.line(time.monotonic() - self._start))
                    pause = self._pause()

        ticking = threading.Thread(target=tick, daemon=True)
        self._now = now
        ticking.start()
        try:
            yield
        finally:
            self._now = None
            over.set()
            ticking.join()

    def line(self, elapsed_s: float) -> str:
        """The text of the line after `elapsed_s` seconds.

        Parameters
        ----------
        elapsed_s : float

        Returns
        -------
        str
        """
        rate = self.done / elapsed_s if elapsed_s > 0 else 0.0
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 else ""
        now = self._now() if self._now else ""
        return (
            f"{self.label}: {self.done:,.0f} of {self.total:,.0f} {self.unit}"
            f", {rate:.1f}/s{left}{'; ' + now if now else ''}"
        )

    def _pause(self) -> float:
        """Seconds until the line after this one."""
        if self._terminal:
            return REDRAW_EVERY_S
        pause, self._plain_s = self._plain_s, min(2 * self._plain_s, PLAIN_AT_LEAST_S)
        return pause

    def close(self) -> float:
        """Clear the line and return the seconds since the start."""
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
        return time.monotonic() - self._start

    def _show(self, text: str) -> None:
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a second line would stay
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
