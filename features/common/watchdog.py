"""Ends a command that does not end itself: a small process beside it that no code in it holds up.

`features.common.ending` starts it as a script, so it imports nothing of ours and no package. It
reads a pipe that the command's C-level signal handler writes to, whatever the interpreter is at.

What comes through the pipe, a byte each
----------------------------------------
- the number of a signal of `ENDING`: it has arrived. Other signals are not for us.
- `BEGIN`, `END`: the command writes something that is to be whole; it gets `WRITING_S` for it.
- `OVER`: the command is over, the process may do what it likes.
- the end of the pipe: the process is gone.

What it does
------------
`GRACE_S` after a signal (or after the end of what was being written) the command's own processes
are killed, whichever pool started them: they are known by a variable of their environment. What
waited for them may then end in order, `SHORT_S` long. After that the command itself is told to
leave, which takes the interpreter, by a thread; then by C code alone; then it is killed. When the
command is gone, by whatever cause, its processes get `GRACE_S` to follow by themselves.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

MARK = "SERFUSE_COMMAND"
"""Variable that the processes of a command have in their environment."""
GRACE_S = 5.0
"""From a signal to the hard end; an orderly one takes less, but for what is being written."""
WRITING_S = 120.0
"""The most that something to be written whole may take after a signal, the wait for it included."""
SHORT_S = 2.0
"""For what follows at once when nothing is in its way."""
LOOK_EVERY_S = 0.05
BEGIN, END, OVER = 0xF1, 0xF2, 0xF0
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def code_of(number: int) -> int:
    """The exit code of a command that a signal has ended, as shells have it."""
    return 128 + number


class Watchdog:
    """What is known of the command.

    Parameters
    ----------
    pid : int
        The command.
    heard : int
        Descriptor of the pipe that is read.
    orders : tuple of int
        Pipes to the command, to be tried one after the other: a byte is the code to leave with.
    mark : str
        Value of `MARK` in the environment of its processes.
    prog : str
        What it is called.
    """

    def __init__(self, pid: int, heard: int, orders: tuple[int, ...], mark: str, prog: str) -> None:
        self.pid, self.heard, self.orders, self.prog = pid, heard, orders, prog
        self.mark = f"{MARK}={mark}".encode()
        self.gone = False
        self.number = 0
        self.depth = 0
        self.deadline: float | None = None

    def run(self) -> None:
        """Watch until the command is gone, and let none of its processes stay behind."""
        while not self.gone:
            left = None if self.deadline is None else self.deadline - time.monotonic()
            if left is not None and left <= 0:
                self._end()
            else:
                self._listen(left)
        self._sweep(GRACE_S)

    def _listen(self, seconds: float | None) -> None:
        """Take what comes within so many seconds."""
        if not select.select([self.heard], [], [], seconds)[0]:
            return
        said = os.read(self.heard, 4096)
        self.gone = not said
        for byte in said:
            now = time.monotonic()
            if byte == OVER:
                self.number, self.depth, self.deadline = 0, 0, None
            elif byte in (BEGIN, END):
                self.depth = max(0, self.depth + (1 if byte == BEGIN else -1))
                if self.number:
                    self.deadline = now + (WRITING_S if self.depth else GRACE_S)
            elif byte in ENDING and not self.number:
                self.number = byte
                self.deadline = now + (WRITING_S if self.depth else GRACE_S)

    def _end(self) -> None:
        """End the command hard, unless it ends by itself once its processes are gone."""
        if self._sweep(0.0):
            self._wait(SHORT_S)
        if self.gone or self.deadline is None or self.deadline > time.monotonic():
            return  # what waited for them goes on to its end
        # Nothing of the command runs any more but the code that does not listen.
        say(
            f"\n{self.prog}: stopped hard, {GRACE_S:g} s after the signal: something in it did not "
            f"listen. What is finished is kept. The same command goes on from here."
        )
        for order in self.orders:
            with contextlib.suppress(OSError):
                os.write(order, bytes([code_of(self.number)]))
            self._wait(SHORT_S / 2)
        if not self.gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait(SHORT_S)
            self.gone = True

    def _wait(self, seconds: float) -> None:
        """Wait so long for the command's end."""
        until = time.monotonic() + seconds
        while not self.gone and self.number:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._listen(left)

    def _sweep(self, patience_s: float) -> bool:
        """See the command's processes end, after so many seconds by force; whether any was."""
        began, forced = time.monotonic(), False
        while found := self._processes():
            waited = time.monotonic() - began
            if waited > patience_s + SHORT_S:
                break  # in the hands of the kernel: nobody could do more
            if waited >= patience_s:
                forced = True
                for pid in found:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_EVERY_S)
        return forced

    def _processes(self) -> list[int]:
        """Processes of the command but itself; none where there is no /proc.

        Those that only tidy up what others leave behind end by themselves, and are to do that.
        """
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                if b"resource_tracker" not in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return [pid for pid in found if pid not in (self.pid, os.getpid())]


def say(text: str) -> None:
    """Print a line on stderr, if anybody reads it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Watch the process that has started this one; started by `ending`.

    Parameters
    ----------
    argv : list of str
        The process, the pipe to hear, those for orders, then the mark and the name.
    """
    for number in (*ENDING, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    pid, heard, *orders = (int(text) for text in argv[:-2])
    # Whatever else was inherited may be a pipe whose end somebody waits for.
    keep = {0, 1, 2, heard, *orders}
    for descriptor in list(map(int, os.listdir("/dev/fd"))):
        if descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.chdir("/")
    Watchdog(pid, heard, tuple(orders), argv[-2], argv[-1]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
