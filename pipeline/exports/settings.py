"""What ``stage=export`` writes."""

from dataclasses import dataclass
from typing import Literal

from core.settings import Count

Format = Literal["csv", "parquet", "croissant", "fhir"]


@dataclass(frozen=True)
class ExportSettings:
    """The synthetic cohort as files for others."""

    format: Format | Literal["all"]
    folder: str | None  # None: export/ in the run's folder
    patients: Count  # FHIR bundles, of the first persons; a bundle of default signals has about 40 resources
    licence: str  # of the data, as a URL or an SPDX identifier
    url: str | None  # where the data set is published; None: it is not, and its digest stands there
