"""Ranged types for settings dataclasses: the range stands where the field is declared, the pipeline enforces it.

A settings dataclass is frozen and has no defaults; its values live in ``conf/``.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le

Count = Annotated[int, Ge(1)]
Index = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
