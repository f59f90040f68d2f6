"""Pictures of scores as SVG inside a page, and as SVG and PDF files for a paper.

Conventions
-----------
- A `Picture` says what is drawn. It is drawn once as SVG and once as PDF, the same each time: no
  dates.
- Inside a page it is one `<svg>` element as text, without metadata. Its ids derive from its title,
  so that pictures with titles of their own stand in one page. Ink is the page's text colour, and
  `--accent`, `--second` and `--paper` are the page's: pictures follow a dark or light page.
- In a file, ink is black on nothing.
- Labels are shown as they are: no mathematics in them, and escaped.
- `axis` labels the axis of scores; `title` says what is shown to those who do not see it; at
  `chance`, a score that guessing has, there is a line where the axis comes near to it.
"""

from __future__ import annotations

import functools
import hashlib
import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluate.scores.records import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from evaluate.runs.curves import LearningCurve


@dataclass(frozen=True)
class Colours:
    """What a picture is drawn with."""

    ink: str
    accent: str
    second: str
    paper: str


# Stand-ins that matplotlib writes, replaced in what it has written: it knows no CSS.
_STAND_INS = Colours("#123451", "#123452", "#123453", "#123454")
_CSS = Colours("currentColor", "var(--accent)", "var(--second)", "var(--paper)")
_PRINT = Colours("#000000", "#1f5fa8", "#b3541e", "#ffffff")
_WRAP = 24
_LARGEST_MARKER = 160
"""Area that a marker of all rows would have, in square points."""
_STRONGEST_SHADE = 0.5
"""Opacity of a full cell; ink on it keeps a contrast of 4.5 on dark and light pages."""


@dataclass(frozen=True)
class Picture:
    """Something to look at, and what it shows for those who do not see it.

    Attributes
    ----------
    draw : callable
        Draws on an empty figure, in the colours that it is given.
    size_inch : (float, float)
    title : str
    """

    draw: Callable[[Figure, Colours], None]
    size_inch: tuple[float, float]
    title: str

    def inline(self) -> str:
        """The picture as an `<svg>` element.

        Returns
        -------
        str
            Colours are the page's variables, and ids begin with the picture's prefix.
        """
        text = self._in(_CSS)
        text = text[text.index("<svg") :]
        for element in ("metadata", "style"):
            text = re.sub(rf"<{element}\b.*?</{element}>", "", text, flags=re.DOTALL)
        text = re.sub(r" ?font-family: [^;\"]*;", "", text)  # the page's own font
        prefix = self._prefix
        text = re.sub(r"\bid=\"", f'id="{prefix}-', text)
        text = re.sub(r"url\(#", f"url(#{prefix}-", text)
        text = re.sub(r"(xlink:href=)\"#", rf'\1"#{prefix}-', text)
        box = re.search(r"viewBox=\"[^\"]*\"", text)
        title = html.escape(self.title)
        head = (
            f'<svg role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink" {box.group() if box else ""} '
            f'style="max-width: {self.size_inch[0] * 1.5 * 96:.0f}px">\n<title>{title}</title>'
        )
        return re.sub(r"^<svg[^>]*>", lambda _: head, text, count=1)

    def svg(self) -> str:
        """The picture as an SVG file."""
        return self._in(_PRINT)

    def pdf(self) -> bytes:
        """The picture as a PDF file."""
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        buffer = io.BytesIO()
        with self._figure(_PRINT) as figure:
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
        return buffer.getvalue()

    @property
    def _prefix(self) -> str:
        return "p" + hashlib.blake2b(self.title.encode(), digest_size=4).hexdigest()

    def _in(self, colours: Colours) -> str:
        """The SVG in these colours."""
        text = self._svg
        for stand_in, colour in zip(astuple(_STAND_INS), astuple(colours), strict=True):
            text = text.replace(f": {stand_in}", f": {colour}")
        return text

    @functools.cached_property
    def _svg(self) -> str:
        """The SVG in stand-ins for colours."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        buffer = io.StringIO()
        with self._figure(_STAND_INS) as figure:
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
        return buffer.getvalue()

    @contextmanager
    def _figure(self, colours: Colours) -> Iterator[Figure]:
        import matplotlib
        from matplotlib.figure import Figure

        style: dict[Any, Any] = {
            "svg.fonttype": "none",
            "svg.hashsalt": self._prefix,
            "pdf.fonttype": 42,
            "font.size": 9,
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            **dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
                colours.ink,
            ),
        }
        with matplotlib.rc_context(style), warnings.catch_warnings():
            # The reader's font draws the letters of an SVG; matplotlib's own only measures them.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = Figure(figsize=self.size_inch, layout="constrained")
            figure.patch.set_visible(False)
            self.draw(figure, colours)
            for ax in figure.axes:
                ax.patch.set_visible(False)
            yield figure


def scores(
    rows: Sequence[tuple[str, Mapping[str, Estimate]]],
    partitions: Sequence[str],
    axis: str,
    title: str,
    *,
    rule_after: int = 0,
    line_at: float | None = None,
    chance: float | None = None,
) -> Picture:
    """Draw a point with its interval for every run and partition.

    Parameters
    ----------
    rows : sequence of (name, {partition: Estimate})
        From top to bottom; a missing or undefined value is left blank.
    partitions : sequence of str
        One or two; the last is drawn filled.
    axis, title : str
    rule_after : int
        Draw a line below so many rows; 0 for none.
    line_at : float, optional
        Draw an upright line at this score.
    chance : float, optional

    Returns
    -------
    Picture
    """
    names = [_wrap(name) for name, _ in rows]
    ends, middles = _rooms(names)

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        shifts = (-0.16, 0.16) if len(partitions) > 1 else (0.0,)
        styles = _styles(len(partitions), colours)
        for partition, shift, style in zip(partitions, shifts, styles, strict=True):
            placed = zip(middles + shift, (found for _, found in rows), strict=True)
            at = [(y, found[partition]) for y, found in placed if partition in found]
            _points(ax, at, across=True, linestyle="none", markersize=5, label=partition, **style)
        if line_at is not None:
            ax.axvline(line_at, color=colours.ink, linewidth=0.6)
            ax.locator_params(axis="x", nbins=6)  # numbers with signs need more room
        _mark_chance(ax, "x", chance, colours)
        _name_rows(ax, names, rule_after, colours)
        _frame(ax, "x", colours, axis)
        if len(partitions) > 1:
            figure.legend(loc="outside upper right", ncols=2, frameon=False)

    return Picture(draw, (4.6, 0.9 + 0.3 * float(ends[-1])), title)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Picture:
    """Draw a confusion matrix: per cent of the row, shaded, with the count below.

    Parameters
    ----------
    matrix : int, shape (n_labels, n_labels)
        Rows are the truth.
    labels : sequence of str
    title : str

    Returns
    -------
    Picture
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [_wrap(label) for label in labels]
    longest = max(len(line) for name in names for line in name.split("\n"))

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        for (i, j), count in np.ndenumerate(counts):
            _shade(ax, i, j, _STRONGEST_SHADE * shares[i, j], colours)
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
    return Picture(draw, (side, side), title)


def by_layer(
    points: Sequence[tuple[str, Estimate]],
    lines: Sequence[tuple[str, Estimate]],
    axis: str,
    title: str,
    *,
    chance: float | None = None,
) -> Picture:
    """Draw a score against the layer, with intervals, and combinations of layers as lines.

    Parameters
    ----------
    points : sequence of (layer, Estimate)
        In the order of the axis; undefined values are left blank.
    lines : sequence of (name, Estimate)
        Runs of no single layer, drawn across, named at the right.
    axis, title : str
    chance : float, optional

    Returns
    -------
    Picture
    """

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        at = [(x, score) for x, (_, score) in enumerate(points)]
        _points(ax, at, color=colours.accent, marker="o", markersize=4, linewidth=0.8)
        _mark_chance(ax, "y", chance, colours)
        drawn = [(score.value, name) for name, score in lines if score.value is not None]
        for value, _ in drawn:
            ax.axhline(value, color=colours.second, linewidth=1, linestyle="--")
        _name_at_the_right(ax, sorted(drawn), colours)
        step = max(1, math.ceil(len(points) / 13))
        ax.set_xticks(range(0, len(points), step), [name for name, _ in points[::step]])
        ax.set_xlim(-0.5, len(points) - 0.5)
        _frame(ax, "y", colours, "layer", axis)

    return Picture(draw, (4.6, 2.8), title)


def scatter(
    points: Sequence[tuple[float, float, str]], x_axis: str, y_axis: str, title: str
) -> Picture:
    """Draw points with a line at 0; the two highest and the lowest are named where there is room.

    A name has a thin line to its point, and is left out where it would cover another point.

    Parameters
    ----------
    points : sequence of (x, y, name)
    x_axis, y_axis, title : str

    Returns
    -------
    Picture
    """
    ordered = sorted(points, key=lambda point: point[1])
    named = [*ordered[-1:], *ordered[:1], *ordered[-2:-1]][: len(points)]

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        ax.axhline(0, color=colours.ink, linewidth=0.6)
        ax.plot(
            [x for x, _, _ in points],
            [y for _, y, _ in points],
            linestyle="none",
            marker="o",
            markersize=5,
            color=colours.accent,
        )
        ax.margins(0.1)
        _frame(ax, "both", colours, x_axis, y_axis)
        figure.draw_without_rendering()  # so that places on the paper are known
        taken = [_around(*ax.transData.transform((x, y))) for x, y, _ in points]
        for point in named:
            _name_beside(ax, point, taken, colours)

    return Picture(draw, (4.6, 3.4), title)


def by_size(
    best: Mapping[int, float | None],
    honest: Mapping[int, Estimate],
    drawn: Mapping[int, tuple[float | None, ...]],
    axis: str,
    title: str,
    *,
    chance: float | None = None,
) -> Picture:
    """Draw the scores of subsets against their size.

    Parameters
    ----------
    best : {size: value}
        Of the best subset, chosen on what it is scored on.
    honest : {size: Estimate}
        Of one that was not; bounds may be None.
    drawn : {size: (low, mean, high)}
        Of random subsets.
    axis, title : str
    chance : float, optional

    Returns
    -------
    Picture
    """

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        if drawn:
            low, mean, high = map(_floats, zip(*drawn.values(), strict=True))
            ax.fill_between(
                list(drawn), low, high, color=colours.ink, alpha=0.12, linewidth=0,
                label="random, 5 % to 95 %",
            )  # fmt: skip
            ax.plot(list(drawn), mean, color=colours.ink, linewidth=0.8, label="random, mean")
        ax.plot(
            list(best), _floats(best.values()), color=colours.second, linestyle="--", marker="s",
            markersize=4, markerfacecolor=colours.paper, label="best (optimistic)",
        )  # fmt: skip
        if any(score.value is not None for score in honest.values()):
            label = "chosen without these rows"
            _points(ax, honest.items(), color=colours.accent, marker="o", markersize=4, label=label)
        _mark_chance(ax, "y", chance, colours)
        ax.locator_params(axis="x", integer=True)
        _frame(ax, "y", colours, "models in the subset", axis)
        figure.legend(loc="outside upper left", ncols=2, frameon=False)

    return Picture(draw, (4.6, 3.4), title)


def reliability(curves: Mapping[str, Sequence[tuple[float, float, int]]], title: str) -> Picture:
    """Draw accuracy against confidence, and the line on which both are equal.

    Parameters
    ----------
    curves : {name: sequence of (confidence, accuracy, rows)}
        One or two; the last is drawn filled. The area of a marker is its share of the rows.
    title : str

    Returns
    -------
    Picture
    """

    def draw(figure: Figure, colours: Colours) -> None:
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color=colours.ink, linewidth=0.6)
        styles = _styles(len(curves), colours)
        for (name, points), style in zip(curves.items(), styles, strict=True):
            x, y, n = zip(*points, strict=True)
            # Markers at 0 and 1 are not cut off at the axes.
            ax.plot(x, y, color=style["color"], linewidth=0.8, clip_on=False)
            ax.scatter(
                x, y, [4 + _LARGEST_MARKER * size / sum(n) for size in n], clip_on=False, zorder=3,
                color=style["markerfacecolor"], edgecolor=style["color"], marker=style["marker"],
            )  # fmt: skip
            ax.plot([], [], markersize=5, linewidth=0.8, label=name, **style)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("confidence")
        ax.set_ylabel("accuracy")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)

    return Picture(draw, (3.2, 3.4), title)


def learning_curve(
    curve: LearningCurve, axis: str, title: str, *, chance: float | None = None
) -> Picture:
    """Draw the mean loss and the mean score of fits against the epoch or step, one above the other.

    A band is one deviation to either side. The upright line is at the median of what was kept;
    where that differs, each has a mark at the foot.

    Parameters
    ----------
    curve : LearningCurve
    axis, title : str
    chance : float, optional

    Returns
    -------
    Picture
    """

    def draw(figure: Figure, colours: Colours) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        parts = ((upper, curve.loss, "training loss"), (lower, curve.score, axis))
        for ax, (mean, deviation), label in parts:
            ax.fill_between(
                curve.at, mean - deviation, mean + deviation, color=colours.accent, alpha=0.2,
                linewidth=0,
            )  # fmt: skip
            alone = "o" if len(curve.at) == 1 else None
            ax.plot(curve.at, mean, color=colours.accent, linewidth=1.2, marker=alone)
            if curve.kept:
                ax.axvline(curve.median_kept, color=colours.second, linewidth=1, linestyle="--")
            _frame(ax, "y", colours, "", label)
        lower.set_xlabel(curve.unit)
        lower.locator_params(axis="x", integer=curve.at[-1] > 4)
        _mark_chance(lower, "y", chance, colours)
        if curve.kept:
            _name_kept(upper, curve.median_kept, colours)
        if len(set(curve.kept)) > 1:
            lower.plot(
                curve.kept, [0.03] * len(curve.kept), transform=lower.get_xaxis_transform(),
                linestyle="none", marker="|", markersize=6, color=colours.second, clip_on=False,
            )  # fmt: skip

    return Picture(draw, (4.6, 3.8), title)


def _name_kept(ax: Axes, at: float, colours: Colours) -> None:
    """Say above an axis which epoch or step was kept."""
    ax.annotate(
        f"kept: {at:g}",
        (at, 1),
        xytext=(0, 2),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color=colours.second,
    )


def _frame(
    ax: Axes, grid: Literal["x", "y", "both"], colours: Colours, x_axis: str, y_axis: str = ""
) -> None:
    """Thin lines behind what is drawn, and the labels of the axes."""
    ax.grid(axis=grid, color=colours.ink, alpha=0.15, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(x_axis)
    ax.set_ylabel(y_axis)


def _styles(n: int, colours: Colours) -> list[dict[str, Any]]:
    """How the points of one or two are drawn; those of the last are filled."""
    hollow = {"color": colours.second, "markerfacecolor": colours.paper, "marker": "s"}
    filled = {"color": colours.accent, "markerfacecolor": colours.accent, "marker": "o"}
    return [hollow, filled][-n:]


def _points(
    ax: Axes, at: Iterable[tuple[float, Estimate]], *, color: str, across: bool = False, **line: Any
) -> None:
    """Draw scores at these places with their intervals: upwards, or across, to the right.

    One that is undefined is left blank; one without bounds has no interval.
    """
    known = [(place, score) for place, score in at if score.value is not None]
    bars = [(place, score) for place, score in known if score.low is not None]
    (ax.hlines if across else ax.vlines)(
        [place for place, _ in bars],
        _floats(score.low for _, score in bars),
        _floats(score.high for _, score in bars),
        color=color,
        linewidth=1.5,
    )
    places, values = [place for place, _ in known], _floats(score.value for _, score in known)
    ax.plot(*((values, places) if across else (places, values)), color=color, **line)


def _rooms(names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each row ends and has its middle; a name of many lines takes the room of several."""
    rooms = np.array([max(1.0, 0.5 * (1 + name.count("\n"))) for name in names])
    ends = np.cumsum(rooms)
    return ends, ends - rooms / 2


def _name_rows(ax: Axes, names: Sequence[str], rule_after: int, colours: Colours) -> None:
    ends, middles = _rooms(names)
    if rule_after:
        ax.axhline(ends[rule_after - 1], color=colours.ink, linewidth=0.6)
    ax.set_ylim(ends[-1], 0)
    ax.set_yticks(middles, names)
    ax.tick_params(axis="y", length=0)


def _shade(ax: Axes, row: int, column: int, opacity: float, colours: Colours) -> None:
    """Shade a cell of a matrix."""
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colours.accent, alpha=opacity, linewidth=0))


def _name_at_the_right(ax: Axes, lines: Sequence[tuple[float, str]], colours: Colours) -> None:
    """The names of lines across, from the lowest to the highest, moved apart."""
    low, high = ax.get_ylim()
    places = _spread([value for value, _ in lines], (high - low) / 14)
    for place, (value, name) in zip(places, lines, strict=True):
        ax.annotate(
            _wrap(name),
            (1, value),
            xytext=(1.04, place),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            va="center",
            color=colours.second,
            arrowprops={"arrowstyle": "-", "color": colours.second, "linewidth": 0.6},
        )


def _name_beside(
    ax: Axes, point: tuple[float, float, str], taken: list[Bbox], colours: Colours
) -> None:
    """The name of a point where it covers nothing of what is taken, to which it is added."""
    from matplotlib.text import Text

    x, y, name = point
    left = x > sum(ax.get_xlim()) / 2  # names stay inside
    for height in (0, 18, -18, 36, -36):
        label = ax.annotate(
            _wrap(name),
            (x, y),
            xytext=(-14 if left else 14, height),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            arrowprops={
                "arrowstyle": "-", "color": colours.ink, "linewidth": 0.5, "shrinkA": 1,
                "shrinkB": 3,
            },
        )  # fmt: skip
        label.set_in_layout(False)
        label.get_window_extent()  # moves it to its place
        box = Text.get_window_extent(label)  # without the line
        inside = ax.bbox.containsx(box.x0) and ax.bbox.containsx(box.x1)
        inside = inside and ax.bbox.containsy(box.y0) and ax.bbox.containsy(box.y1)
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return
        label.remove()


def _mark_chance(ax: Axes, side: str, chance: float | None, colours: Colours) -> None:
    """A dotted line at chance level, where it lies within the axis or near to it.

    Near is half of what the axis shows: further off, the line would press the scores together.
    """
    low, high = ax.get_xlim() if side == "x" else ax.get_ylim()
    if chance is None or not low - (high - low) / 2 <= chance <= high:
        return
    across = ax.axvline if side == "x" else ax.axhline
    across(chance, color=colours.ink, linewidth=0.8, linestyle=":")
    place = {"x": (chance, 1), "y": (1, chance)}[side]
    ax.annotate(
        "chance",
        place,
        xytext={"x": (3, -1), "y": (-1, 2)}[side],
        xycoords=ax.get_xaxis_transform() if side == "x" else ax.get_yaxis_transform(),
        textcoords="offset points",
        ha="left" if side == "x" else "right",
        va="top" if side == "x" else "bottom",
        fontsize=7,
    )


def _floats(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([*values], dtype=np.float64)


def _around(x: float, y: float) -> Bbox:
    """The room of a marker on the paper, in its units."""
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(x - 4, y - 4, 8, 8)


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Move ascending values apart to a gap at least, about where they were."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    shift = (sum(places) - sum(values)) / max(len(values), 1)
    return [place - shift for place in places]


def _wrap(name: str) -> str:
    return "\n".join(textwrap.wrap(name, _WRAP)) or name
