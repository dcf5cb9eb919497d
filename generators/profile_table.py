"""What a table of profiles must be before anything is learned from it; each fault is one line that names the column."""

from typing import Literal

import numpy as np
import pandas as pd

from core.errors import DataError
from core.protocols import Tracker
from generators.identifiers import direct_identifiers

_NEARLY = 0.95  # share of different persons that a column must tell apart to count as an identifier
_HEAD = 20_000  # rows that say how many different ones there are at least
_FEW = 20  # values below which nothing is called an identifier
_MANY = 200  # values from which evenness alone tells a number that was handed out from one that was measured
_EVEN = 1.36  # Kolmogorov-Smirnov distance times sqrt(n) below which even spread is not rejected (5 %)


def check_profiles(profiles: pd.DataFrame, max_levels: int) -> None:
    """Refuse what no generator can learn.

    Raises:
        DataError: no rows, a missing or infinite value, or a text column of too many levels.
    """
    if profiles.empty:
        raise DataError(
            f"profiles: the table has {len(profiles)} rows and {profiles.shape[1]} columns; bring some of both"
        )
    for name in profiles:
        _check_values(profiles[name])
    for name in profiles:
        levels = 0 if pd.api.types.is_numeric_dtype(profiles[name]) else profiles[name].nunique()
        if levels > max_levels:
            raise DataError(
                f"profiles: column '{name}' has {levels} distinct texts in {len(profiles)} rows, expected at most "
                f"{max_levels}; group its values, leave it out (source.drop=[{name}]), or raise profiles.max_levels"
            )


def _check_values(values: pd.Series) -> None:
    missing = int(values.isna().sum())
    if missing == len(values):
        raise DataError(
            f"profiles: column '{values.name}' has no value at all; leave it out (source.drop=[{values.name}])"
        )
    if missing:
        raise DataError(
            f"profiles: column '{values.name}' lacks {missing} of {len(values)} values (first at row "
            f"{int(values.isna().argmax())}); fill them, or leave the column out (source.drop=[{values.name}])"
        )
    if pd.api.types.is_numeric_dtype(values):
        infinite = ~np.isfinite(values.to_numpy(float))
        if infinite.any():
            raise DataError(
                f"profiles: column '{values.name}' has {int(infinite.sum())} infinite values (first at row "
                f"{int(infinite.argmax())}), expected finite numbers; correct them"
            )


def drop_columns(
    profiles: pd.DataFrame,
    drop: tuple[str, ...],
    identifiers: Literal["refuse", "drop", "keep"],
    tracker: Tracker,
    allowed: tuple[str, ...] = (),
) -> pd.DataFrame:
    """The table without the columns named, and without what looks like an identifier or refused for it; says what went.

    A direct identifier (a name, an address, ...) is kept only where it is ``allowed`` by name.

    Raises:
        DataError: a column named is not there, none is left, or one looks like an identifier and is to be refused.
    """
    unknown = [name for name in drop if name not in profiles]
    if unknown:
        raise DataError(
            f"profiles: source.drop names column '{unknown[0]}', expected one of {', '.join(map(str, profiles))}"
        )
    kept = profiles.drop(columns=list(drop))
    direct = _direct(kept, identifiers == "drop", allowed)
    kept = kept.drop(columns=direct)
    found = [] if identifiers == "keep" else [name for name in id_like(kept) if name not in allowed]
    if found and identifiers == "refuse":
        name = found[0]
        raise DataError(
            f"profiles: column '{name}' looks like an identifier ({profiles[name].nunique()} distinct values in "
            f"{len(profiles)} rows), which nothing can be learned from; leave it out (source.drop=[{name}], or "
            "source.id_like=drop), or source.id_like=keep where it is a measurement"
        )
    kept = kept.drop(columns=found)
    if kept.columns.empty:
        raise DataError("profiles: source.drop and source.id_like leave no column; keep at least one")
    if drop or direct or found:
        tracker.note(f"profiles: left out columns {', '.join([*drop, *direct, *found])}")
    return kept


def _direct(profiles: pd.DataFrame, drop: bool, allowed: tuple[str, ...]) -> list[str]:
    """Columns to leave out as direct identifiers; refused where they are not to be dropped."""
    unknown = [name for name in allowed if name not in profiles]
    if unknown:
        raise DataError(
            f"profiles: source.allow_identifiers names column '{unknown[0]}', expected one of "
            f"{', '.join(map(str, profiles))}"
        )
    found = {name: kind for name, kind in direct_identifiers(profiles).items() if name not in allowed}
    if found and not drop:
        told = ", ".join(f"'{name}' ({kind})" for name, kind in found.items())
        names = ",".join(found)
        raise DataError(
            f"profiles: {told} looks like a direct identifier, which must not enter a run; leave it out "
            f"('source.drop=[{names}]'), or keep it knowingly ('source.allow_identifiers=[{names}]')"
        )
    return list(found)


def id_like(profiles: pd.DataFrame) -> list[str]:
    """Columns whose value names the person: text, or whole numbers handed out evenly, (nearly) all of them different.

    A person may fill several rows, so a column is measured against the number of different rows. Measured numbers that
    hardly repeat (an income, a body mass index) crowd somewhere and have decimals; numbers handed out are consecutive or
    spread evenly from the first to the last.
    """
    at_least = len(profiles.head(_HEAD).drop_duplicates())  # so that a large table is seldom searched whole
    candidates = [name for name in profiles if profiles[name].nunique() >= max(_FEW, _NEARLY * at_least)]
    candidates = [name for name in candidates if _names_somebody(profiles[name])]
    if not candidates:
        return []
    different = len(profiles.drop_duplicates())
    found = []
    for name in candidates:
        others = profiles.shape[1] > 1 and len(profiles.drop(columns=name).drop_duplicates()) >= different / 2
        if profiles[name].nunique() >= _NEARLY * (different if others else len(profiles)):
            found.append(str(name))
    return found


def _names_somebody(values: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(values) or _handed_out(values.to_numpy(float))


def _handed_out(values: np.ndarray) -> bool:
    """Whether numbers are whole and consecutive, or whole and evenly spread (many of them, or in order)."""
    if not (np.isfinite(values).all() and (values == np.round(values)).all()):
        return False
    _, first = np.unique(values, return_index=True)
    distinct, n = values[np.sort(first)], len(first)  # in order of appearance
    low, width = distinct.min(), np.ptp(distinct)
    if width + 1 <= 1.5 * n:
        return True
    rank = (np.sort(distinct) - low) / width
    distance = np.abs(rank - (np.arange(n) + 0.5) / n).max()
    return bool(distance * np.sqrt(n) < _EVEN and (n >= _MANY or (np.diff(distinct) > 0).all()))
