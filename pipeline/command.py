"""The command: checks the line, runs the stages through Hydra, and ends with one line where something is wrong."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from core.errors import ConfigError, ManoError
from pipeline import console as screen
from pipeline.config import CONF, Config, build, check_command_line, plain
from pipeline.journey import show_journey
from pipeline.runner import run_stage
from pipeline.stages import STAGES
from pipeline.store import RunStore, write_json

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def run(arguments: Sequence[str]) -> int:
    """The exit status of the command with these arguments."""
    with one_line_errors(arguments):
        check_command_line(arguments)
        _hydra_main()
    return 0


@contextmanager
def one_line_errors(arguments: Sequence[str]) -> Iterator[None]:
    """What a user can act on ends the program with one line; anything else is a bug and keeps its traceback."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        yield
    except ManoError as error:
        message, status = " ".join(str(error).split()), USAGE if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        command = " ".join(["python run_pipeline.py", *arguments])
        message, status = f"interrupted; finished stages are kept, continue with: {command}", INTERRUPTED
    except OSError as error:
        if error.strerror is None:
            raise
        message, status = f"{error.strerror}: {error.filename}; earlier results are untouched", FAILED
    else:
        return
    errors.print(f"[red]error:[/] {escape(message)}")
    sys.exit(status)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _hydra_main(composed: DictConfig) -> None:
    # Inside the job as well: Hydra would report an exception in its own words, but lets an exit pass.
    with one_line_errors(sys.argv[1:]):
        execute(build(composed), screen.console())


def execute(config: Config, console: Console) -> None:
    """Run what the configuration asks for."""
    options = f"preset={config.preset} data={config.data.kind} labels={config.labels.kind}"
    store = RunStore(Path(config.runs_dir) / config.run, options)
    if config.stage == "journey":
        show_journey(config, store, console)
        return
    started = time.time()
    with store.lock():
        store.sweep()
        screen.banner(console, config)
        write_json(store.root / "config.json", plain(config))
        wanted = [stage for stage in STAGES if config.stage in ("all", stage.name)]
        for stage in wanted:
            stage_started = time.time()
            ran = run_stage(stage, config, store, console, force=config.force)
            screen.stage_line(console, stage.name, ran, time.time() - stage_started, store.metrics(stage.name))
    if config.stage == "all":
        screen.finish(console, store, time.time() - started)
        show_journey(config, store, console)
