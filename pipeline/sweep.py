"""Several seeds: a run for each, which may begin with the finished stages of another run."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich.console import Console
from rich.markup import escape

from core.errors import ConfigError, MissingStageError
from pipeline.config import Config
from pipeline.runner import Stage
from pipeline.stages import STAGES
from pipeline.store import PARTIAL, RunStore


def with_own_runs(arguments: Sequence[str]) -> list[str]:
    """The command line of a sweep over seeds alone, completed: a run for each seed, named after it.

    Where it asks for one stage, its runs begin with what the preset's own run has made: then nothing but this stage
    follows from the seed. What the line says itself stands; any other line stays as it is.
    """
    given = list(arguments)
    options, _ = get_args_parser().parse_known_args(given)
    try:
        overrides = OverridesParser.create().parse_overrides(options.overrides)
    except HydraException:
        return given  # told of by the check that follows
    lines = {each.key_or_group: str(each.input_line) for each in overrides}
    swept = {each.key_or_group for each in overrides if each.is_sweep_override()}
    if not options.multirun or swept != {"seed"} or "run" in lines or "${" in lines.get("runs_dir", ""):
        return given
    begins = "base" not in lines and lines.get("stage", "stage=all") != "stage=all"
    return [*given, "run=${preset}_seed${seed}", *(["base=${preset}"] if begins else [])]


def take_stages(config: Config, store: RunStore, console: Console) -> None:
    """Give the run what its stage needs and it does not have, from the run ``base``: the same files, not copies.

    Raises:
        ConfigError: a base for more than one stage, or the run itself. MissingStageError: the base lacks a stage.
    """
    if config.base is None:
        return
    if config.stage == "all" or config.base == config.run:
        raise ConfigError(
            f"base={config.base}: expected another run than '{config.run}', and one stage, as in stage=policy run=other base={config.base}"
        )
    # What makes the base is told with its own seed, whatever that was.
    options = " ".join(word for word in store.options.split() if not word.startswith("seed="))
    base = RunStore(Path(config.runs_dir) / config.base, options)
    taken = []
    for name in needed(config.stage):
        if not base.has(name):
            raise MissingStageError(
                f"base={config.base}: stage '{config.stage}' needs '{name}', which that run does not have; make it with `{base.command(name)}`"
            )
        if not store.has(name):
            partial = store.folder(name + PARTIAL)
            shutil.copytree(
                base.folder(name), partial, copy_function=os.link
            )  # no stage ever writes into a finished one
            partial.rename(store.folder(name))
            taken.append(name)
        elif store.digest(name) != base.digest(name):
            console.print(
                f"  [yellow]note[/] stage '{name}' is not that of run '{escape(config.base)}' (any more), and is used as it is"
            )
    if taken:
        console.print(f"  from run '{escape(config.base)}', as they are: {', '.join(taken)}")


def needed(stage: str) -> list[str]:
    """All that a stage builds on, in order."""
    by_name: dict[str, Stage] = {each.name: each for each in STAGES}
    wanted: set[str] = set()
    queue = list(by_name[stage].needs)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += by_name[name].needs
    return [each.name for each in STAGES if each.name in wanted]
