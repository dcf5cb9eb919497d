"""Charts as plain Plotly figures (JSON) and figures made of them. Colours are names, ``@real`` or ``@real/0.2`` with an
opacity, which the page resolves for light, dark and print."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.treatments import COLOURS, LABELS, TREATMENTS

Chart = dict[str, Any]
Trace = dict[str, Any]
REAL, SYNTHETIC, GREY, INK = "@real", "@synthetic", "@grey", "@ink"
THEMED = ("@grey", "@t1", "@t2", "@t3", "@t4")  # treatments the page has a light and a dark colour for
OF_TREATMENT = dict(zip(TREATMENTS, (*THEMED, *COLOURS[len(THEMED) :]), strict=True))
NAME_OF_TREATMENT = dict(zip(TREATMENTS, LABELS, strict=True))
DIGITS = 4  # of the numbers that are drawn; no screen shows more
HEIGHT = 250  # px


@dataclass(frozen=True)
class Figure:
    """Charts under one title.

    Attributes:
        title: the finding, in numbers.
        beside: how many it was found on, in which unit, and the ceiling or baseline to read it against.
        charts: side by side, as many as the page is wide.
        legend: (label, colour, ``line``, ``dash``, ``dot`` or ``box``).
        wide: the width in px below which a chart moves to the next row.
    """

    title: str
    beside: str
    charts: list[Chart]
    legend: list[tuple[str, str, str]] = field(default_factory=list)
    wide: int = 230


def chart(data: list[Trace], title: str = "", x: str = "", y: str = "", height: int = HEIGHT, **layout: Any) -> Chart:
    """Traces under a short title, with named axes; ``layout`` is Plotly's, ``xaxis`` and ``yaxis`` as what differs."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    merged = {name: axes[name] | layout.pop(name, {}) for name in axes}
    return {"data": data, "layout": {"title": {"text": title}, "height": height, **merged, **layout}}


def plain(value: Any) -> Any:
    """Arrays as lists, rounded; NaN as None, which Plotly leaves out."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def line(x: Any, y: Any, name: str, colour: str, dash: str = "solid", width: float = 2, points: bool = False) -> Trace:
    style = {"color": colour, "dash": dash, "width": width}
    mode = "lines+markers" if points else "lines"
    return {"type": "scatter", "x": x, "y": y, "name": name, "mode": mode, "line": style, "marker": {"size": 6}}


def band(x: Any, low: Any, high: Any, name: str, colour: str) -> Trace:
    """The area between two curves, as a closed outline."""
    x, low, high = (list(each) for each in (x, low, high))
    outline = {"x": x + x[::-1], "y": high + low[::-1], "fill": "toself", "fillcolor": colour, "line": {"width": 0}}
    return {"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip", **outline}


def dots(x: Any, y: Any, name: str, colour: str, symbol: str = "circle", size: float = 9, **more: Any) -> Trace:
    edge = {"width": 3 if symbol.startswith("line") else 1, "color": colour}
    marker = {"color": colour, "symbol": symbol, "size": size, "line": edge}
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "name": name, "marker": marker, **more}


def whiskers(values: Iterable[Any], intervals: Iterable[Any], colour: str = INK) -> dict[str, Any]:
    """Plotly's error bars from values and their intervals (None: none)."""
    pairs = [
        (0, 0) if value is None or not each or each[0] is None else (each[1] - value, value - each[0])
        for value, each in zip(values, intervals, strict=True)
    ]
    above, below = ([pair[side] for pair in pairs] for side in (0, 1))
    return {"type": "data", "array": above, "arrayminus": below, "color": colour, "thickness": 1.4, "width": 3}


def bars(labels: Sequence[str], values: Sequence[Any], colours: Any, intervals: Sequence[Any] | None = None, **more: Any) -> Trace:  # fmt: skip
    """Horizontal bars, the first on top."""
    trace = {"type": "bar", "orientation": "h", "y": list(labels), "x": list(values), "marker": {"color": colours}}
    return trace | ({} if intervals is None else {"error_x": whiskers(values, intervals)}) | more


def downwards(rows: int, **more: Any) -> dict[str, Any]:
    """The settings of a chart with a row per label, the first on top, and room for each."""
    return {
        "yaxis": {"autorange": "reversed", "automargin": True, "title": {"text": ""}},
        "height": 92 + 26 * rows,
    } | more


def heat(z: Any, x: Sequence[str], y: Sequence[str], scale: str, low: float, high: float, **more: Any) -> Trace:
    """A heat map on the scale ``warm`` (0 to much) or ``diverging`` (around 0)."""
    return {"type": "heatmap", "z": z, "x": list(x), "y": list(y), "zmin": low, "zmax": high, "colorscale": f"@{scale}",
            "xgap": 1, "ygap": 1, "colorbar": {"thickness": 9, "outlinewidth": 0}, **more}  # fmt: skip


def at(value: float, axis: str = "x", dash: str = "dot", colour: str = INK) -> dict[str, Any]:
    """A straight line across the chart at ``value`` of an axis: a layout's shape."""
    other = "y" if axis == "x" else "x"
    return {"type": "line", "xref": "x" if axis == "x" else "paper", "yref": "y" if axis == "y" else "paper",
            f"{axis}0": value, f"{axis}1": value, f"{other}0": 0, f"{other}1": 1,
            "line": {"color": colour, "width": 1, "dash": dash}}  # fmt: skip


def readable(name: str) -> str:
    return name.replace("_", " ")
