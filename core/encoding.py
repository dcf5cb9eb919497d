"""From people to numbers: profile columns to features, weeks to scaled weeks. Fitted once, on training persons."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core.cohort import Cohort, categorical_columns, numeric_columns
from core.errors import DataError

_FLAT = 1e-9


def varies(sd: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Whether a standard deviation is more than what rounding leaves of a constant (0.1 repeated has 1.4e-17)."""
    return np.greater(sd, _FLAT * np.maximum(1.0, np.abs(mean)))


def divisor(sd: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """``sd``, or 1 where nothing varies: what to divide by when standardising."""
    return np.where(varies(sd, mean), sd, 1.0)


@dataclass(frozen=True)
class ProfileEncoder:
    """Numeric columns standardised, categorical ones one-hot over the levels seen in training.

    ``numeric`` maps column -> (mean, sd); ``levels`` maps column -> known levels, in order. A category never seen
    belongs to no level: its columns are all 0, so that no weight that training left untouched speaks for it.
    """

    numeric: dict[str, tuple[float, float]]
    levels: dict[str, tuple[str, ...]]

    @classmethod
    def fit(cls, profiles: pd.DataFrame, hidden: tuple[str, ...] = ()) -> "ProfileEncoder":
        """Learn from training persons; ``hidden`` columns stay out (a label's own inputs, say)."""
        visible = profiles.drop(columns=[column for column in hidden if column in profiles])
        numeric = {}
        for column in numeric_columns(visible):
            values = visible[column].to_numpy(float)
            mean = values.mean()
            numeric[column] = (float(mean), float(divisor(values.std(), mean)))
        levels = {column: tuple(sorted(set(visible[column].astype(str)))) for column in categorical_columns(visible)}
        return cls(numeric, levels)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numeric, *self.levels)

    @property
    def feature_names(self) -> tuple[str, ...]:
        one_hot = [f"{column}={level}" for column, levels in self.levels.items() for level in levels]
        return (*self.numeric, *one_hot)

    @property
    def size(self) -> int:
        return len(self.feature_names)

    def encode(self, profiles: pd.DataFrame) -> np.ndarray:
        """float32 ``[N, P]``; an unknown category is all 0 (see :meth:`unseen`)."""
        missing = [column for column in self.columns if column not in profiles]
        if missing:
            raise DataError(
                f"profiles lack column '{missing[0]}', which the model was trained with; expected {', '.join(self.columns)}"
            )
        parts = [((profiles[c].to_numpy(float) - mean) / sd)[:, None] for c, (mean, sd) in self.numeric.items()]
        for column, levels in self.levels.items():
            code = pd.Categorical(profiles[column].astype(str), categories=list(levels)).codes.astype(int)
            parts.append(code[:, None] == np.arange(len(levels)))  # -1, an unknown category, equals none
        return np.concatenate(parts, axis=1).astype(np.float32) if parts else np.zeros((len(profiles), 0), np.float32)

    def unseen(self, profiles: pd.DataFrame) -> dict[str, int]:
        """How many rows hold a category the encoder has no level for, by column (only columns with any)."""
        counts = {
            column: int((~profiles[column].astype(str).isin(levels)).sum()) for column, levels in self.levels.items()
        }
        return {column: count for column, count in counts.items() if count}

    def to_meta(self) -> dict[str, Any]:
        return {
            "numeric": {c: list(v) for c, v in self.numeric.items()},
            "levels": {c: list(v) for c, v in self.levels.items()},
        }

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "ProfileEncoder":
        return cls(
            {c: (v[0], v[1]) for c, v in meta["numeric"].items()}, {c: tuple(v) for c, v in meta["levels"].items()}
        )


@dataclass(frozen=True)
class WeekScaler:
    """Physical units to person-population z-scores, per signal; ``between`` is the sd of person means."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    between: tuple[float, ...]

    @classmethod
    def fit(cls, cohort: Cohort) -> "WeekScaler":
        """Mean and sd of all observed days, and the sd of observed week means, per signal."""
        days = np.where(cohort.mask, cohort.rhythms, np.nan).astype(float)
        means = np.nanmean(days, axis=1)
        mean, sd, between = np.nanmean(days, axis=(0, 1)), np.nanstd(days, axis=(0, 1)), np.nanstd(means, axis=0)
        return cls(
            tuple(map(float, mean)),
            tuple(map(float, divisor(sd, mean))),
            tuple(map(float, divisor(between, mean))),
        )

    def scale(self, week: Tensor) -> Tensor:
        """``[..., C]`` physical -> z."""
        return (week - torch.tensor(self.mean, dtype=week.dtype, device=week.device)) / torch.tensor(
            self.sd, dtype=week.dtype, device=week.device
        )

    def unscale(self, z: Tensor) -> Tensor:
        """``[..., C]`` z -> physical."""
        return z * torch.tensor(self.sd, dtype=z.dtype, device=z.device) + torch.tensor(
            self.mean, dtype=z.dtype, device=z.device
        )

    def to_meta(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "sd": list(self.sd), "between": list(self.between)}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "WeekScaler":
        return cls(tuple(meta["mean"]), tuple(meta["sd"]), tuple(meta["between"]))
