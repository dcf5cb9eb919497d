"""Where week models work: rank-Gauss scores beside encoded profiles, and the way back to physical units."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.artifact import Artifact
from core.cohort import Cohort
from core.encoding import ProfileEncoder
from core.errors import ArtifactError, DataError
from core.signals import Signal, Signals
from generators.rank_gauss import RankGauss


@dataclass(frozen=True)
class WeekSpace:
    """What every week model has: the margins of each signal, the profile's encoding, and the signals."""

    margins: RankGauss
    encoder: ProfileEncoder
    signals: Signals

    @classmethod
    def fit(cls, cohort: Cohort) -> "WeekSpace":
        """From the observed days of the training persons.

        Raises:
            DataError: a signal was never observed.
        """
        seen = cohort.mask.any((0, 1))
        if not seen.all():
            name = cohort.signals[int(np.argmin(seen))].name
            raise DataError(f"rhythms: signal '{name}' was not observed on any training day; drop it or bring its data")
        return cls(RankGauss.fit(cohort.rhythms, cohort.mask), ProfileEncoder.fit(cohort.profiles), cohort.signals)

    def scores(self, cohort: Cohort, rng: np.random.Generator) -> np.ndarray:
        """float64 ``[N, 7, C]``; 0, the middle of every signal, where nothing was observed: fills do not enter."""
        known = np.where(cohort.mask, cohort.rhythms, [values[0] for values in self.margins.sorted_values])
        return np.where(cohort.mask, self.margins.to_scores(known, rng), 0.0)

    def weeks(self, scores: np.ndarray) -> np.ndarray:
        """float32 physical weeks ``[..., C]`` of scores, within each signal's range."""
        return self.within_range(self.margins.to_values(scores))

    def within_range(self, weeks: np.ndarray) -> np.ndarray:
        """float32 weeks ``[..., C]``, cut to each signal's range."""
        low, high = ([getattr(signal, bound) for signal in self.signals] for bound in ("low", "high"))
        return np.clip(weeks, low, high).astype(np.float32)

    def artifact(self, kind: str, tensors: dict[str, Tensor], **meta: Any) -> Artifact:
        """A model's artifact: its own tensors and description, and this space."""
        margins = {f"margin.{k}": torch.from_numpy(values) for k, values in enumerate(self.margins.sorted_values)}
        signals = [asdict(signal) for signal in self.signals]
        return Artifact(
            tensors | margins, {"kind": kind, "encoder": self.encoder.to_meta(), "signals": signals, **meta}
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact, kind: str) -> "WeekSpace":
        """The space of an artifact that :meth:`artifact` made.

        Raises:
            ArtifactError: the artifact is of another kind of model.
        """
        found = artifact.meta.get("kind")
        if found != kind:
            raise ArtifactError(
                f"rhythm model is of kind '{found}', expected '{kind}'; train it again with stage=rhythms force=true"
            )
        signals = tuple(Signal(**signal) for signal in artifact.meta["signals"])
        margins = RankGauss(tuple(artifact.tensors[f"margin.{k}"].numpy() for k in range(len(signals))))
        return cls(margins, ProfileEncoder.from_meta(artifact.meta["encoder"]), signals)
