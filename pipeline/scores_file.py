"""The file that scores are written to: whole or not at all, never over a file that something else wrote.

Beside it stands ``FILE.json``: which run and model the scores are of, what was read, and the SHA-256 of everything.
"""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import DataError
from core.protocols import Tracker
from generators.sources.scored_layout import Layout
from pipeline.runner import versions
from pipeline.store import sha256, write_bytes, write_json

KIND = "mano_scores"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet takes text that begins so for a formula


def beside(output: Path) -> Path:
    """The file that says where the scores come from."""
    return output.with_name(output.name + ".json")


def refuse_to_replace(output: Path, files: list[Path], force: bool) -> None:
    """Refuse an output that is an input, or (unless ``force``) that is not, as it stands, the scores of the same input.

    Raises:
        DataError: which file, and what to do.
    """
    for path in (output, beside(output)):
        if path.is_dir():
            raise DataError(f"{path}: a folder, expected a file name; choose another predict.output=")
        if any(path.resolve() == file.resolve() for file in files):
            raise DataError(f"{path}: this is the table to score; choose another predict.output=")
    why = None if force else _not_ours(output, files)
    if why:
        raise DataError(f"{why}; choose another predict.output=, or add force=true to replace it")


def _not_ours(output: Path, files: list[Path]) -> str | None:
    """What speaks against replacing the output, or None."""
    if not output.exists() and not beside(output).exists():
        return None
    try:
        facts = json.loads(beside(output).read_bytes())
        ours, (earlier, *_), written = facts["kind"] == KIND, facts["inputs"], facts["output"]
    except (OSError, ValueError, TypeError, KeyError):
        ours = False
    if not ours:
        return f"{output if output.exists() else beside(output)}: exists, and was not written by stage=predict"
    if earlier != str(files[0].resolve()):
        return f"{output}: holds the scores of another table, {earlier}"
    if output.exists() and sha256(output) != written:
        return f"{output}: was changed since stage=predict wrote it"
    return None


def write_scores(
    output: Path, scores: pd.DataFrame, layout: Layout, files: list[Path], facts: dict[str, Any], tracker: Tracker
) -> None:
    """``output`` as its suffix says (a CSV with the separator and decimal sign of the table read), and what it is of."""
    if output.suffix.lower() == ".csv":
        separator = layout.separator.replace("\\t", "\t")
        text = without_formulas(scores, tracker).to_csv(index=False, sep=separator, decimal=layout.decimal)
        data = text.encode()
    else:
        buffer = io.BytesIO()
        scores.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    inputs = {str(file.resolve()): sha256(file) for file in files}
    write_bytes(output, data)
    write_json(
        beside(output),
        {"kind": KIND, "note": "research simulator, not medical advice", **facts, "inputs": inputs}
        | {"output": sha256(output), "versions": versions()},
    )


def without_formulas(scores: pd.DataFrame, tracker: Tracker) -> pd.DataFrame:
    """Text that a spreadsheet would run as a formula, with an apostrophe before it; says how many cells."""
    result, changed = scores.copy(), 0
    for column in scores.select_dtypes(object):
        if column == "week":
            continue
        risky = scores[column].str.startswith(FORMULA, na=False)
        result[column] = scores[column].mask(risky, "'" + scores[column])
        changed += int(risky.sum())
    if changed:
        tracker.note(
            f"{changed} cells of text begin with a sign that a spreadsheet takes for a formula, written with a leading "
            "apostrophe (a .parquet file keeps them as they are)"
        )
    return result
