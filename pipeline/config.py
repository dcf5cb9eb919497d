"""The typed configuration: composed by Hydra from ``conf/``, checked here, and handed on as frozen dataclasses.

Types and ranges stand in the settings dataclass of each part; this module turns what is wrong with a value, a type or
a key into one line that names the key, what was got and what was expected.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError

from core.errors import ConfigError
from core.settings import Count, Index
from envs.rewards import EnvSettings
from envs.trial import TrialSettings
from generators.calibration import CalibrationSettings
from generators.ctgan import CTGANSettings
from generators.labels import LabelSettings
from generators.sources import DataSettings
from generators.timegan_training import TimeGANSettings
from intervention.evaluation import EvaluateSettings
from intervention.training import PolicySettings
from intervention.trials import TrialsSettings
from intervention.twin_training import TwinSettings
from predictor.training import RiskSettings

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("preset", "data", "labels")
StageName = Literal[
    "all", "source", "profiles", "rhythms", "cohort", "risk", "trials", "twin", "policy", "evaluate", "report", "journey"
]


@dataclass(frozen=True)
class SourceSettings:
    """How many persons, and how many of them are set apart."""

    persons: Count  # training persons drawn from the reference population
    holdout_persons: Count  # held-out persons drawn from it
    holdout_fraction: Fraction  # share of real persons held out, for sources that are a table


@dataclass(frozen=True)
class CohortSettings:
    """The synthetic cohort."""

    persons: Count  # synthetic persons


@dataclass(frozen=True)
class Config:
    """The whole configuration, checked."""

    stage: StageName
    preset: str
    run: str
    runs_dir: str
    seed: Index
    patient: Index | None
    force: bool
    threads: Count
    source: SourceSettings
    data: DataSettings
    labels: LabelSettings
    profiles: ProfileSettings
    rhythms: TimeGANSettings
    cohort: CohortSettings
    risk: RiskSettings
    trial: TrialSettings
    env: EnvSettings
    trials: TrialsSettings
    twin: TwinSettings
    policy: PolicySettings
    evaluate: EvaluateSettings


def plain(value: Any) -> Any:
    """Settings as plain JSON types."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Compose and check, as the command line would.

    Raises:
        ConfigError: one line naming the key, what was got and what was expected.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_first_line(error)) from error
    return build(composed)


def build(composed: DictConfig) -> Config:
    """The typed configuration of a composed one."""
    values = OmegaConf.to_container(composed, resolve=True)
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, values)) from error


def check_command_line(arguments: Sequence[str]) -> None:
    """Refuse a wrong override before anything runs, each value of a sweep by itself.

    Raises:
        ConfigError: unknown key (with the nearest right one), wrong type, value out of range.
    """
    texts = get_args_parser().parse_args(list(arguments)).overrides
    try:
        overrides = OverridesParser.create().parse_overrides(texts)
    except HydraException as error:
        raise ConfigError(f"{_first_line(error)}; write overrides as key=value") from error
    known = known_keys()
    for override in overrides:
        key = override.key_or_group
        if not override.is_add() and not key.startswith("hydra") and key not in known and key not in GROUPS:
            raise ConfigError(f"unknown configuration key '{key}'{_nearest(key, known)}; see python run_pipeline.py --help")
    load_config([_one_value(override) for override in overrides])


def known_keys() -> set[str]:
    """Every dotted key of every choice of source and labels."""
    keys: set[str] = set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for data in choices("data"):
            for labels in choices("labels"):
                composed = compose("config", overrides=[f"data={data}", f"labels={labels}"])
                keys |= set(_dotted(OmegaConf.to_container(composed, resolve=False)))
    return keys


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _dotted(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    found = []
    for key, inner in value.items():
        found += [f"{prefix}{key}", *_dotted(inner, f"{prefix}{key}.")]
    return found


def _nearest(key: str, known: set[str]) -> str:
    """', did you mean ...?', by the whole dotted key or by its last part."""
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in sorted(known, reverse=True)}
        close = [tails[tail] for tail in difflib.get_close_matches(key.rsplit(".", 1)[-1], sorted(tails), n=1)]
    return f", did you mean '{close[0]}'?" if close else ""


def _one_value(override: Override) -> str:
    """A sweep's first value in place of the sweep."""
    if not override.is_sweep_override():
        return str(override.input_line)
    first = next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"


def _first_line(error: Exception) -> str:
    """The first sentence of a library's message, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    group = next((g for g in GROUPS if f"'{g}/" in lines[0]), None)
    if group:
        return f"{lines[0].rstrip('.')}; {group}= is one of {', '.join(choices(group))}"
    return " ".join(lines[:2])


def _explain(error: ValidationError, values: Any) -> str:
    """Pydantic's first complaint as: key, got, expected."""
    first = error.errors()[0]
    # Members of a tagged union appear in the location by their tag, which is no key of the user's.
    path = [str(part) for part in first["loc"] if str(part) in _all_keys(values) or isinstance(part, int)]
    key = ".".join(path) or ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Input ").removeprefix("should be ")
    if first["type"] in ("missing", "missing_argument"):
        return f"configuration key '{'.'.join(map(str, first['loc']))}' is missing; set it on the command line"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = set(_dotted(values))
        return f"unknown configuration key '{key}'{_nearest(key, known - {key})}"
    return f"{key}={first['input']!r}: expected {message[0].lower()}{message[1:]}"


def _all_keys(values: Any) -> set[str]:
    return {part for key in _dotted(values) for part in key.split(".")}
