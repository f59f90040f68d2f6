"""The records of the known corpora, for people."""

from __future__ import annotations

from collections.abc import Iterable

from features.corpora import CORPORA, get_corpus
from features.corpora.base import Corpus


def listing(names: Iterable[str] = ()) -> str:
    """The records of these corpora, or of all, a paragraph each.

    Raises
    ------
    CorpusError
        With the nearest keys, if one is unknown.
    """
    records = [get_corpus(name) for name in names] or list(CORPORA.values())
    return "\n\n".join(describe(record) for record in records)


def describe(record: Corpus) -> str:
    """Write a record down, a line a subject; what is not known (or not so) is left out.

    Parameters
    ----------
    record : Corpus

    Returns
    -------
    str
        Lines; those behind the first are indented.

    Examples
    --------
    >>> print(describe(get_corpus("turev-db")).splitlines()[1])
      published: 1,735 utterances, 6 speakers; languages: tr
    """
    counts = [f"{record.expected[w]:,} {w}" for w in ("utterances", "speakers") if w in
              record.expected]  # fmt: skip
    size = f"published: {', '.join(counts)}" if counts else ""
    languages = f"languages: {', '.join(record.languages)}" if record.languages else ""
    lines = [
        ("", "; ".join(part for part in (size, languages) if part)),
        *((f"{name}: ", ", ".join(map(str, labels))) for name, labels in record.labels.items()),
        ("targets: ", ", ".join(record.targets)),
        ("label maps: ", ", ".join(record.label_maps)),
        ("options: ", ", ".join(record.options)),
        (f"below DATA/{record.key}: ", record.layout),
        (f"tree: {record.tree}; ", record.source),
        ("licence: ", record.licence),
        ("where: ", record.homepage),
        ("cite: ", record.citation),
    ]
    return "\n".join(
        [f"{record.key}: {record.title}", *(f"  {name}{text}" for name, text in lines if text)]
    )
