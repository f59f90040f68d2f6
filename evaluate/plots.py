"""Pictures of scores as SVG, to stand inside a page.

Conventions
-----------
- A picture is one `<svg>` element as text, without metadata. Its ids derive from its title, so that
  pictures with titles of their own stand in one page.
- Ink is the page's text colour, and `--accent`, `--second` and `--paper` are the page's: pictures
  follow a dark or light page.
- Labels are shown as they are: no mathematics in them, and escaped.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that matplotlib writes and `_svg` replaces: it knows no CSS.
_INK, _ACCENT, _SECOND, _PAPER = "#123451", "#123452", "#123453", "#123454"
_CSS = {
    _INK: "currentColor",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
    _PAPER: "var(--paper)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_WRAP = 24
_STRONGEST_SHADE = 0.5
"""Opacity of a full cell; ink on it keeps a contrast of 4.5 on dark and light pages."""


def scores(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]],
    partitions: Sequence[str],
    axis: str,
    title: str,
    *,
    rule_after: int = 0,
) -> str:
    """Draw a point with its interval for every run and partition.

    Parameters
    ----------
    rows : sequence of (name, {partition: {"value", "low", "high"}})
        From top to bottom; a missing or undefined value is left blank.
    partitions : sequence of str
        One or two; the last is drawn filled.
    axis, title : str
        Label of the axis of scores; what the picture shows, for those who do not see it.
    rule_after : int
        Draw a line below so many rows; 0 for none.
    """

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        styles = [(_SECOND, _PAPER, "s"), (_ACCENT, _ACCENT, "o")][-len(partitions) :]
        gap = 0.32 if len(partitions) > 1 else 0.0
        for i, (partition, (colour, face, marker)) in enumerate(
            zip(partitions, styles, strict=True)
        ):
            known = [
                (y + gap * (i - (len(partitions) - 1) / 2), found[partition])
                for y, (_, found) in enumerate(rows)
                if found.get(partition, {}).get("value") is not None
            ]
            bars = [(y, one) for y, one in known if one.get("low") is not None]
            ax.hlines(
                [y for y, _ in bars],
                [one["low"] for _, one in bars],
                [one["high"] for _, one in bars],
                color=colour,
                linewidth=1.5,
            )
            ax.plot(
                [one["value"] for _, one in known],
                [y for y, _ in known],
                linestyle="none",
                marker=marker,
                markersize=5,
                color=colour,
                markerfacecolor=face,
                label=partition,
            )
        if rule_after:
            ax.axhline(rule_after - 0.5, color=_INK, linewidth=0.6)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_yticks(range(len(rows)), [_wrap(name) for name, _ in rows])
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel(axis)
        if len(partitions) > 1:
            figure.legend(loc="outside upper right", ncols=2, frameon=False)

    lines = sum(_wrap(name).count("\n") + 1 for name, _ in rows)
    return _svg(draw, (4.6, 0.9 + 0.3 * max(lines, len(rows))), title)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> str:
    """Draw a confusion matrix: per cent of the row, shaded, with the count below.

    Parameters
    ----------
    matrix : int, shape (n_labels, n_labels)
        Rows are the truth.
    labels : sequence of str
    title : str
        What the picture shows, for those who do not see it.
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [_wrap(label) for label in labels]
    longest = max(len(line) for name in names for line in name.split("\n"))

    def draw(figure: Figure) -> None:
        from matplotlib.patches import Rectangle

        ax = figure.subplots()
        for (i, j), count in np.ndenumerate(counts):
            shade = _STRONGEST_SHADE * shares[i, j]
            ax.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=_ACCENT, alpha=shade, linewidth=0)
            )
            share = f"{100 * shares[i, j]:.0f}" if totals[i, 0] else "-"
            ax.text(j, i - 0.12, share, ha="center", va="center", fontsize=9)
            ax.text(j, i + 0.27, f"{count}", ha="center", va="center", fontsize=6.5)
        ticks = range(len(labels))
        if longest > 12:  # slanted, such names would run into each other
            ax.set_xticks(ticks, names, rotation=90)
        else:
            ax.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(ticks, names)
        ax.tick_params(length=0)
        ax.set_xlim(-0.5, len(labels) - 0.5)
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.set_aspect("equal")
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        for side in ("top", "right"):
            ax.spines[side].set_visible(True)
        for spine in ax.spines.values():
            spine.set_linewidth(0.6)

    side = 0.6 + 0.42 * len(labels) + 0.09 * longest
    return _svg(draw, (side, side), title)


def _wrap(name: str) -> str:
    return "\n".join(textwrap.wrap(name, _WRAP)) or name


def _svg(draw: Any, size_inch: tuple[float, float], title: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    prefix = "p" + hashlib.blake2b(title.encode(), digest_size=4).hexdigest()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}), warnings.catch_warnings():
        # The page's font draws the letters; matplotlib's own only measures them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size_inch, layout="constrained")
        figure.patch.set_visible(False)
        draw(figure)
        for ax in figure.axes:
            ax.patch.set_visible(False)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for element in ("metadata", "style"):
        text = re.sub(rf"<{element}\b.*?</{element}>", "", text, flags=re.DOTALL)
    text = re.sub(r" ?font-family: [^;\"]*;", "", text)  # the page's own font
    text = re.sub(r"\bid=\"", f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r"(xlink:href=)\"#", rf'\1"#{prefix}-', text)
    for stand_in, colour in _CSS.items():
        text = text.replace(stand_in, colour)
    box = re.search(r"viewBox=\"[^\"]*\"", text)
    head = (
        f'<svg role="img" aria-label="{html.escape(title)}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" {box.group() if box else ""} '
        f'style="max-width: {size_inch[0] * 1.5 * 96:.0f}px">\n<title>{html.escape(title)}</title>'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: head, text, count=1)
