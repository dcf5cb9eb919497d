"""The typed configuration: composed by Hydra from ``conf/``, checked here, and handed on as frozen dataclasses.

Types and ranges stand in the settings dataclass of each part; this module turns what is wrong with a value, a type or
a key into one line that names the key, what was got and what was expected.
"""

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt, MinLen
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, Field, StringConstraints, TypeAdapter, ValidationError

from core.errors import ConfigError
from core.settings import Count, Fraction, Index
from core.signals import DAYS
from envs.rewards import EnvSettings
from envs.trial import TrialSettings
from generators.labels import LabelSettings
from generators.profiles import ProfileSettings
from generators.rhythms import RhythmSettings
from generators.sources import DataSettings
from intervention.evaluation import EvaluateSettings
from intervention.learning_curve import LearningCurveSettings
from intervention.off_policy import OffPolicySettings
from intervention.training import PolicySettings
from intervention.trial_effects import Finding
from intervention.trials import TrialsSettings
from intervention.twin_quality import TwinQualitySettings
from intervention.twin_training import TwinSettings
from pipeline.exports.settings import ExportSettings
from pipeline.recording import DatasetSettings
from predictor.settings import RiskSettings

# Leaves room for the seeds counted up from it; libraries below take 32 bits.
Seed = Annotated[int, Ge(0), Lt(2**31)]
# One folder's name: no path leads out of runs_dir, and a number is a name too.
RunName = Annotated[str, BeforeValidator(str), StringConstraints(pattern=r"^\w[\w.=-]*$")]

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("preset", "data", "labels")
OUTPUTS = (".parquet", ".csv")  # what scores are written as
StageName = Literal[
    "all",
    "source",
    "profiles",
    "rhythms",
    "cohort",
    "risk",
    "trials",
    "twin",
    "policy",
    "evaluate",
    "report",
    "journey",
    "predict",
    "trial",
    "dataset",
    "compare",
    "audit",
    "export",
]


@dataclass(frozen=True)
class SourceSettings:
    """How many persons, and how many of them are set apart."""

    persons: Count  # training persons drawn from the reference population
    holdout_persons: Count  # held-out persons drawn from it
    holdout_fraction: Fraction  # share of real persons held out, for sources that are a table
    drop: tuple[str, ...]  # profile columns that the run leaves out
    id_like: Literal["refuse", "drop", "keep"]  # what to do with a profile column whose value names the person
    allow_identifiers: tuple[str, ...] = ()  # profile columns kept though they look like a direct identifier


@dataclass(frozen=True)
class CohortSettings:
    """The synthetic cohort."""

    persons: Count  # synthetic persons
    sensitive: str | None  # profile column whose inference by an attacker is measured
    shadows: Index  # shadow generators the membership attacker trains; 0 for no such attack
    missing: Literal["none", "realistic"]  # whether synthetic persons miss days as the training persons do
    shadow_generators: Literal["quick", "same"]  # Gaussian copula and hierarchical weeks, or the run's own generators


@dataclass(frozen=True)
class PredictSettings:
    """Scoring a table of the user's; None: as the table was written that the run was trained on."""

    profiles: str | None  # path of a table with one row per person; None: the profile stands beside the days
    output: str | None  # path of a .parquet or .csv file; None: one in the run's folder
    person: str | None  # column that identifies a person
    date: str | None  # column of the calendar day
    date_format: str | None  # "ISO8601" or a strptime format
    separator: Annotated[str, MinLen(1)] | None  # between columns
    decimal: Literal[".", ","] | None  # decimal sign
    columns: dict[str, str] | None  # signal or profile column -> the table's column
    convert: dict[str, str] | None  # a signal's column -> the unit it is written in, where that is another
    weeks: Literal["latest", "all"]  # which of a person's weeks
    min_days: Annotated[int, Ge(1), Le(DAYS)]  # observed days every signal must have in a week
    drivers: Index  # what moved the score most, named in the output; 0 for none


@dataclass(frozen=True)
class Config:
    """The whole configuration, checked."""

    stage: StageName
    preset: str
    run: RunName
    base: RunName | None
    compare: tuple[RunName, ...]
    runs_dir: str
    seed: Seed
    patient: Index | None
    input: str | None
    force: bool
    damaged: Literal["rebuild", "refuse"]
    threads: Count
    wide_threads: Count
    source: SourceSettings
    data: Annotated[DataSettings, Field(discriminator="kind")]
    labels: Annotated[LabelSettings, Field(discriminator="kind")]
    profiles: ProfileSettings
    rhythms: RhythmSettings
    cohort: CohortSettings
    risk: RiskSettings
    trial: TrialSettings
    env: EnvSettings
    trials: TrialsSettings
    twin: TwinSettings
    twin_quality: TwinQualitySettings
    policy: PolicySettings
    learning_curve: LearningCurveSettings
    evaluate: EvaluateSettings
    off_policy: OffPolicySettings
    predict: PredictSettings
    dataset: DatasetSettings
    export: ExportSettings
    published: tuple[Finding, ...]


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Built once: reading the types takes longer than checking a value."""
    return TypeAdapter(kind)


def plain(value: Any) -> Any:
    """Settings as plain JSON types."""
    adapter = _adapter(type(value))  # type: ignore[arg-type]  # mypy takes type[Any] for unhashable
    return adapter.dump_python(value, mode="json")


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Compose and check, as the command line would.

    Raises:
        ConfigError: one line naming the key, what was got and what was expected.
    """
    # Inside the command Hydra stands already, on the same files, and will not be set up twice.
    standing = GlobalHydra.instance().is_initialized()
    with nullcontext() if standing else initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_first_line(error)) from error
    return build(composed)


def build(composed: DictConfig) -> Config:
    """The typed configuration of a composed one."""
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from error
    try:
        config: Config = _adapter(Config).validate_python(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, values)) from error
    unknown = set(_dotted(values)) - set(_dotted(plain(config)))
    if unknown:
        key = min(unknown)
        raise ConfigError(f"unknown configuration key '{key}'{_nearest(key, set(_dotted(plain(config))))}")
    _check_prediction(config)
    return config


def _check_prediction(config: Config) -> None:
    """Refuse a table without the stage that reads it, that stage without a table, and an unknown kind of output."""
    if config.stage == "predict" and config.input is None:
        raise ConfigError("input=null: expected the CSV to score; give it as stage=predict input=FILE.csv")
    if config.stage != "predict" and config.input is not None:
        raise ConfigError(
            f"input={config.input!r}: only stage=predict reads it; add stage=predict, or leave input= out"
        )
    output = config.predict.output
    if output is not None and Path(output).suffix.lower() not in OUTPUTS:
        raise ConfigError(f"predict.output={output!r}: expected a file name that ends in {' or '.join(OUTPUTS)}")


def check_command_line(arguments: Sequence[str]) -> None:
    """Refuse a wrong override before anything runs, each value of a sweep by itself.

    Raises:
        ConfigError: unknown key (with the nearest right one), wrong type, value out of range.
    """
    options, unknown = get_args_parser().parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(f"unknown option '{unknown[0]}'; see python run_pipeline.py --help")
    if options.help:
        return
    texts = options.overrides
    try:
        overrides = OverridesParser.create().parse_overrides(texts)
    except HydraException as error:
        raise ConfigError(
            f"{_first_line(error)}; write overrides as key=value, and signs in a value in double quotes: \"key='my (1).csv'\""
        ) from error
    sweeps = [override.key_or_group for override in overrides if override.is_sweep_override()]
    if sweeps and not options.multirun:
        raise ConfigError(f"{sweeps[0]} has several values; add --multirun, or quote a value that holds a comma")
    if sweeps and not {"run", "runs_dir"} & set(_varying(overrides)):
        raise ConfigError(
            f"every job of this sweep would write the same run; give each its own, as in 'run=sweep_${{{sweeps[0]}}}'"
        )
    chosen = [_values(override)[0] for override in overrides if override.key_or_group in GROUPS]
    known = _keys_with(chosen)
    for override in overrides:
        key = override.key_or_group
        if not override.is_add() and not key.startswith("hydra") and key not in known and key not in GROUPS:
            raise ConfigError(
                f"unknown configuration key '{key}'{_hint(key, known)}; see python run_pipeline.py --help"
            )
    values = [_values(override) for override in overrides]
    for index in range(max(map(len, values), default=1)):
        load_config([each[min(index, len(each) - 1)] for each in values])


def _keys_with(chosen: list[str]) -> set[str]:
    """Every dotted key there is with these choices of files."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = compose("config", overrides=chosen)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_first_line(error)) from error
    return set(_dotted(OmegaConf.to_container(composed, resolve=False)))


def _hint(key: str, known: set[str]) -> str:
    """Which choices have the key, or else which key is nearest."""
    group = key.split(".")[0]
    owners = [c for c in choices(group) if key in _keys_with([f"{group}={c}"])] if group in GROUPS else []
    if owners:
        return f": it belongs to {group}={', '.join(owners)}"
    return _nearest(key, known)


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


def _varying(overrides: Sequence[Override]) -> list[str]:
    """The keys whose value differs between the jobs of a sweep: swept, or an interpolation."""
    return [each.key_or_group for each in overrides if each.is_sweep_override() or "${" in str(each.input_line)]


def _values(override: Override) -> list[str]:
    """The override itself, or one for each value of a sweep."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


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
    return f"{key}={first['input']!r}: expected {message[0].lower()}{message[1:]}"


def _all_keys(values: Any) -> set[str]:
    return {part for key in _dotted(values) for part in key.split(".")}
