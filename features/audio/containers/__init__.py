"""What an audio file is made of, by its own framing: where its sound begins and where it ends.

A file's header says how long the sound is, and libsndfile decodes as much and no more. Here the
bytes are looked at: a file that is longer than that, or of which nobody knew the length when it was
written, is given to libsndfile in parts (`parts`) whose headers are right; one that is shorter is
refused. One module a family of files; nothing is decoded here but the sound of videos.
"""

from __future__ import annotations

from collections.abc import Callable

from features.audio.containers import chunks, flac, mpeg, ogg, sphere
from features.audio.containers.parts import WHOLE, Bytes, Part, Seen
from features.audio.containers.tags import after_tags


def parts_of(path: str, seen: Callable[[], Seen | None]) -> list[Part]:
    """The parts of a file; one of a kind that is not known here is one part.

    Parameters
    ----------
    path : str
    seen : callable
        Gives what libsndfile sees in the file as it is; None where it cannot read it.

    Returns
    -------
    list of Part
        In the order of the file; `[WHOLE]` where it is to be decoded as it is.

    Raises
    ------
    AudioError
        The file is cut short or damaged, or holds what may be sound and may be none.
    OSError
    """
    with Bytes(path) as file:
        start = after_tags(file, 0, file.size)
        head = file.at(start, 32)
        if chunks.is_of_chunks(head):
            found = chunks.parts(file, start, file.size)
        elif head[:4] == b"OggS":
            found = ogg.parts(file, start, file.size, seen)
        elif head[:4] == b"fLaC":
            found = flac.parts(file, start, file.size)
        elif head[:4] == b"NIST":
            found = sphere.parts(file, start, file.size)
        elif mpeg.is_frame(head) or (as_it_is := seen()) is None or as_it_is.format == "MP3":
            found = mpeg.parts(file, start, file.size, seen)
        else:
            found = [WHOLE]
        # Of most kinds libsndfile takes no tag in front.
        return [Part(start, file.size)] if start and found == [WHOLE] and not seen() else found
