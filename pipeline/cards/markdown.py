"""What all cards are made of: sections, tables, numbers that are told as measured or as not measured."""

from collections.abc import Callable, Sequence
from pathlib import PurePath  # a user's own folders stay out of a card
from typing import Any

from pipeline.console import lookup, number

Metrics = dict[str, Any]
Section = tuple[str, list[str]]
WARNING = "**Not medical advice.** A research simulator: nothing here may decide about a person, and nothing was tried on one."
NOT_MEASURED = "not measured"
NO_PRIVACY_GUARANTEE = (
    "**No differential-privacy guarantee.** No generator is trained with differential privacy. The attacks above are "
    "measurements: they bound what these attackers found, not what another may find."
)


def card(title: str, sections: Sequence[Section]) -> str:
    """A card; the warning stands first in every one."""
    parts = [f"# {title}", WARNING]
    for heading, lines in sections:
        parts += [f"## {heading}", *lines]
    return "\n\n".join(parts) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what stands in a cell cannot end it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def told(metrics: Metrics, path: str, how: Callable[[Any], str] = number) -> str:
    """The value at a dotted path, or that it was not measured."""
    value = lookup(metrics, path)
    return NOT_MEASURED if value is None else how(value)


def count(value: Any) -> str:
    return f"{value:,}"


def with_interval(metrics: Metrics, path: str, intervals: str) -> str:
    """A number and its interval, where there is one below ``intervals``."""
    interval = lookup(metrics, f"{intervals}.{path}")
    beside = f" ({number(interval[0])} to {number(interval[1])})" if interval else ""
    return told(metrics, path) + beside


def measured(
    metrics: Metrics, rows: Sequence[tuple[str, str]], intervals: str, beside: Sequence[tuple[str, str]]
) -> str:
    """A table of ``(label, path)``: value with interval, and the same path below each of ``beside`` (heading, where)."""
    header = ["measure", "value (95 % interval)", *(heading for heading, _ in beside)]
    lines = [
        [label, with_interval(metrics, path, intervals), *(told(metrics, f"{where}.{path}") for _, where in beside)]
        for label, path in rows
    ]
    return table(header, lines)


def provenance(made: Metrics) -> str:
    """Of one stage's manifest: seed, what it was made from, by which versions."""
    inputs = (
        ", ".join(f"{PurePath(name).name} `{digest[:12]}`" for name, digest in made["inputs"].items())
        or "nothing stored"
    )
    known = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return f"Seed {made['seed']}; made from {inputs} (SHA-256); {known}."
