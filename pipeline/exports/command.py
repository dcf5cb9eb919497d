"""``stage=export``: a run's synthetic cohort as files for others.

A command like the journey, not a stage: it reads a finished run and adds files beside its stages. Everything comes from
the synthetic cohort under new ids; nobody whom a source observed is in it.
"""

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape

from core.cohort import Cohort
from core.errors import ConfigError, MissingStageError
from pipeline.config import Config
from pipeline.exports.croissant import croissant
from pipeline.exports.fhir import bundles
from pipeline.exports.tables import PERSON_DAYS, PERSONS, days_table, dictionary, harmless, persons_table
from pipeline.runner import versions
from pipeline.scores_file import without_formulas
from pipeline.store import MANIFEST, RunStore, sha256, write_bytes, write_json
from pipeline.tracker import RunTracker

WARNING = "Research simulator, not medical advice. Not to be used for any decision about a person."
NEEDS = {"croissant": "mlcroissant", "fhir": "fhir.resources"}  # of a format: the library, in an extra of its name


def export(config: Config, store: RunStore, console: Console) -> list[Path]:
    """Write the synthetic cohort in ``export.format`` and say what was written; returns the files but single bundles.

    Raises:
        ConfigError: the format needs a library that is not installed.
        MissingStageError: the run has no cohort. ArtifactError: its files are damaged.
    """
    settings, started = config.export, time.perf_counter()
    wanted = ("csv", "parquet", "croissant", "fhir") if settings.format == "all" else (settings.format,)
    for name in wanted:
        require(name)
    if not store.has("cohort"):
        raise MissingStageError(f"{store.root}: the run has no synthetic cohort; make it with `{store.command('all')}`")
    folder = Path(settings.folder).expanduser() if settings.folder else store.root / "export"
    cohort, tracker = store.cohort("cohort"), RunTracker(store.root, console)
    tables = {PERSONS: persons_table(cohort), PERSON_DAYS: days_table(cohort)}
    written: list[Path] = []
    if "csv" in wanted or "croissant" in wanted:
        written += write_csv(folder, tables, cohort, tracker)
    if "parquet" in wanted:
        written += write_parquet(folder, tables)
    if "croissant" in wanted:
        facts = about(config, store, cohort)
        digests = {name: sha256(folder / f"{name}.csv") for name in tables}
        write_json(folder / "croissant.json", croissant(facts, digests, dictionary(cohort), WARNING))
        written.append(folder / "croissant.json")
    if "fhir" in wanted:
        written += write_bundles(folder / "fhir", cohort, config, store)
    seconds = time.perf_counter() - started
    show(console, store, folder, written, len(cohort), seconds)
    return [path for path in written if path.parent == folder]


def require(name: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        ConfigError: which extra has it.
    """
    library = NEEDS.get(name)
    if library is None:
        return
    try:
        there = find_spec(library) is not None
    except ModuleNotFoundError:  # of a package within a package that is not there
        there = False
    if not there:
        raise ConfigError(f'export.format={name} needs {library}, which is not installed; pip install -e ".[{name}]"')


def write_csv(folder: Path, tables: dict[str, pd.DataFrame], cohort: Cohort, tracker: RunTracker) -> Iterator[Path]:
    """Both tables and their dictionary, text that a spreadsheet would run made harmless."""
    for name, table in {**tables, "data_dictionary": dictionary(cohort)}.items():
        path = folder / f"{name}.csv"
        safe = without_formulas(table, tracker).rename(columns=harmless)
        write_bytes(path, safe.to_csv(index=False).encode())
        yield path


def write_parquet(folder: Path, tables: dict[str, pd.DataFrame]) -> Iterator[Path]:
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write_bytes(folder / f"{name}.parquet", buffer.getvalue())
        yield folder / f"{name}.parquet"


def write_bundles(folder: Path, cohort: Cohort, config: Config, store: RunStore) -> Iterator[Path]:
    for index, text in enumerate(bundles(cohort, store.digest("cohort"), config.export.patients, WARNING)):
        path = folder / f"patient_{index + 1:06d}.json"
        write_bytes(path, text.encode())
        yield path


def about(config: Config, store: RunStore, cohort: Cohort) -> dict[str, str]:
    """What the metadata says of the data set; its day is that on which the cohort was made."""
    made = store.manifest("cohort")
    known, kind = versions()["mano-twin"], store.manifest("source")["config"]["data"]["kind"]
    day = datetime.fromtimestamp((store.folder("cohort") / MANIFEST).stat().st_mtime, UTC).date()
    return {
        "name": f"mano-{store.root.name}",
        "description": f"{len(cohort):,} synthetic persons, a profile and a week of daily signals each, drawn from generators "
        f"trained on the source '{kind}' (seed {made['seed']}, Manō {known}). {WARNING}",
        "license": config.export.licence,
        "url": config.export.url or f"urn:sha-256:{store.digest('cohort')}",
        "version": known,
        "date_published": day.isoformat(),
        "cite_as": f"Manō {known}: synthetic cohort {store.digest('cohort')[:12]}",
    }


def show(console: Console, store: RunStore, folder: Path, written: list[Path], persons: int, seconds: float) -> None:
    size = sum(path.stat().st_size for path in written) / 1e6
    kinds = json.loads(pd.Series([path.suffix for path in written]).value_counts().to_json())
    counts = ", ".join(f"{count:,} {suffix}" for suffix, count in kinds.items())
    console.print(
        f"[bold]Manō[/] exports the synthetic cohort of run [bold]{escape(store.root.name)}[/]: {persons:,} persons. {WARNING}\n"
        f"  {counts} ({size:.1f} MB, {seconds:.1f} s) in {escape(str(folder))}",
        soft_wrap=True,
    )
