"""The page: sections, tables and figures put into one file that needs no network."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.console import display_name, number
from pipeline.report.charts import Figure, plain
from pipeline.risk_table import apart, baseline_name, ordered, percent, short, span

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(figures: dict[str, Figure], **values: Any) -> str:
    """The page with ``figures`` by name, which the templates place."""
    charts = {f"{name}-{i}": plain(each) for name, figure in figures.items() for i, each in enumerate(figure.charts)}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape())
    environment.filters |= {"number": number, "short": short, "percent": percent, "embed": embed}
    environment.globals |= {"display_name": display_name, "baseline_name": baseline_name}
    environment.globals |= {"apart": apart, "span": span, "ordered": ordered}
    library = Markup(get_plotlyjs())
    return environment.get_template("report.html").render(figures=figures, charts=charts, library=library, **values)


def embed(value: Any) -> Markup:
    """JSON for a script element, which no text in it can end."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))
