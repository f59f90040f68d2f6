"""How a command ends when it is told to: one rule, whatever runs in it and in its processes.

Conventions
-----------
- SIGINT, SIGTERM and SIGHUP raise `KeyboardInterrupt` and `Terminated` in the main thread, as soon
  as Python code runs there: parts are sealed, locks given back, pools closed. Native code runs on
  until it returns, in the main thread as in any pool (threads, processes of joblib, of
  `concurrent.futures`, of Dask), so nothing in this process can be relied on to stop it.
- `features.common.watchdog`, a process of its own, hears of the signal from C code and ends what
  has not ended `watchdog.GRACE_S` later, processes of pools first. No pool needs a rule of its own.
- What takes longer and is to be whole is done `in_full()`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from types import FrameType

from features.common import watchdog
from features.common.watchdog import BEGIN, END, GRACE_S, MARK, OVER, SHORT_S, code_of

_SIGEV_THREAD = 2


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: seal what is finished and leave."""


class Ending:
    """What a running command knows of its end.

    Attributes
    ----------
    number : int
        The signal that has arrived first; 0 before.
    """

    def __init__(self) -> None:
        self.number = 0

    @property
    def code(self) -> int:
        """The exit code that the signal asks for."""
        return code_of(self.number)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT as Python does."""
        self.number = self.number or number
        raise KeyboardInterrupt

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGHUP."""
        self.number = self.number or number
        raise Terminated

    def settle(self) -> None:
        """Wait until no thread of a pool works any more, or for what the watchdog does about it."""
        until = time.monotonic() + 2 * GRACE_S + 2 * SHORT_S
        while any(map(_works, threading.enumerate())):
            if time.monotonic() > until:  # no watchdog could be started
                os._exit(self.code)
            time.sleep(watchdog.LOOK_EVERY_S)


@contextlib.contextmanager
def ending(prog: str) -> Iterator[Ending]:
    """Let signals end what runs in the body, in bounded time.

    A signal that is ignored (`nohup`, a shell's background job) stays so.

    Parameters
    ----------
    prog : str
        What the command is called in messages.

    Yields
    ------
    Ending
    """
    command = Ending()
    handlers = {
        signal.SIGINT: command.interrupt,
        signal.SIGTERM: command.terminate,
        signal.SIGHUP: command.terminate,
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        # SIGINT of a caller that handles it by itself is the caller's.
        if before[number] in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, handler)
    mark = os.environ.get(MARK)
    watch = _Watch.start(prog)
    previous = -1
    if watch:
        previous = signal.set_wakeup_fd(watch.told, warn_on_full_buffer=False)
        os.environ[MARK] = watch.mark
    try:
        yield command
    finally:
        if watch:
            signal.set_wakeup_fd(previous)
            watch.tell(OVER)
            if mark is None:
                os.environ.pop(MARK, None)
            else:
                os.environ[MARK] = mark
        for number, was in before.items():
            signal.signal(number, was)


@contextlib.contextmanager
def in_full() -> Iterator[None]:
    """Have the time to do what the body does although a signal came: `watchdog.WRITING_S`."""
    watch = _Watch.running
    if watch:
        watch.tell(BEGIN)
    try:
        yield
    finally:
        if watch:
            watch.tell(END)


def _works(thread: threading.Thread) -> bool:
    """Whether a thread keeps the interpreter from ending; one that waits for work in a pool not."""
    if thread.daemon or thread is threading.current_thread():
        return False
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return thread.is_alive()
    return (frame.f_globals.get("__name__"), frame.f_code.co_name) != (
        "concurrent.futures.thread",
        "_worker",
    )


class _Watch:
    """The watchdog of this process; it is started once."""

    running: _Watch | None = None

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        heard, self.told = os.pipe()
        os.set_blocking(self.told, False)  # a signal handler must not wait
        self._pipes = [heard, self.told]
        self._orders: list[int] = []

    @classmethod
    def start(cls, prog: str) -> _Watch | None:
        """The watchdog of this process; None where none can be started."""
        if cls.running is None and hasattr(os, "posix_spawn") and sys.executable:
            watch = cls()
            try:
                watch._spawn(prog)
            except OSError:
                watch.forget()
                return None
            cls.running = watch
        return cls.running

    def tell(self, byte: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self.told, bytes([byte]))

    def forget(self) -> None:
        """Close all that leads to the watchdog: in a child by fork, whose parent it watches."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                os.close(pipe)

    def _spawn(self, prog: str) -> None:
        obeyed, order = os.pipe()
        self._pipes += [obeyed, order]
        orders = [order]
        threading.Thread(target=_obey, args=(obeyed,), daemon=True).start()
        obeyed, order = os.pipe()
        self._pipes += [obeyed, order]
        if _obey_in_c(obeyed):
            orders.append(order)
        passed = [self._pipes[0], *orders]
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        argv = [sys.executable, "-I", "-S", watchdog.__file__, *map(str, (os.getpid(), *passed))]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        argv += [self.mark, prog]
        try:
            # Of its own session, so that no Ctrl-C and no kill of a group means it.
            os.posix_spawn(sys.executable, argv, os.environ, file_actions=files, setsid=True)
        except NotImplementedError:
            os.posix_spawn(sys.executable, argv, os.environ, file_actions=files)
        finally:
            for descriptor in passed:
                os.set_inheritable(descriptor, False)


def _obey(obeyed: int) -> None:
    """Leave with the code that the watchdog says; what was printed is not lost."""
    code = os.read(obeyed, 1)
    if code:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code[0])


_kept: list[ctypes.Array[ctypes.c_char]] = []


def _obey_in_c(obeyed: int) -> bool:
    """Have the C library read the code and leave with it, should Python code never run again.

    POSIX calls a function with a value when an asynchronous read is done; the function is `_exit`,
    and the byte that is read is the value.

    Returns
    -------
    bool
        Whether this C library can do that.
    """
    libc = ctypes.CDLL(None)
    if not sys.platform.startswith("linux") or not hasattr(libc, "aio_read"):
        return False

    class Event(ctypes.Structure):
        _fields_ = (
            ("value", ctypes.c_void_p),
            ("signal", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("function", ctypes.c_void_p),
            ("attributes", ctypes.c_void_p),
        )

    class Read(ctypes.Structure):
        _fields_ = (
            ("file", ctypes.c_int),
            ("operation", ctypes.c_int),
            ("priority", ctypes.c_int),
            ("buffer", ctypes.c_void_p),
            ("n_bytes", ctypes.c_size_t),
            ("event", Event),
        )

    memory = ctypes.create_string_buffer(1024)  # the library's own fields follow ours
    _kept.append(memory)
    read = Read.from_buffer(memory)
    read.file, read.n_bytes = obeyed, 1
    read.buffer = ctypes.addressof(memory) + Read.event.offset + Event.value.offset
    read.event.notify = _SIGEV_THREAD
    read.event.function = ctypes.cast(libc._exit, ctypes.c_void_p).value
    return bool(libc.aio_read(memory) == 0)


def _forget_parent() -> None:
    watch, _Watch.running = _Watch.running, None
    if watch:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        watch.forget()


os.register_at_fork(after_in_child=_forget_parent)
