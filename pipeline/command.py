"""The command: checks the line, runs the stages through Hydra, and ends with one line where something is wrong."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from rich.console import Console

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
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        check_command_line(arguments)
        # Hydra wraps what a job raises in its own report; full errors keep ours as they are.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        _hydra_main()
    except ConfigError as error:
        errors.print(f"[red]error:[/] {_escaped(error)}")
        return USAGE
    except ManoError as error:
        errors.print(f"[red]error:[/] {_escaped(error)}")
        return FAILED
    except KeyboardInterrupt:
        errors.print(
            f"interrupted; finished stages are kept, continue with: python run_pipeline.py {' '.join(arguments)}"
        )
        return INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        errors.print(f"[red]error:[/] {error.strerror}: {error.filename}; earlier results are untouched")
        return FAILED
    return 0


def _escaped(error: Exception) -> str:
    return " ".join(str(error).split()).replace("[", "\\[")


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _hydra_main(composed: DictConfig) -> None:
    execute(build(composed), Console(highlight=False))


def execute(config: Config, console: Console) -> None:
    """Run what the configuration asks for."""
    torch.set_num_threads(config.threads)
    store = RunStore(Path(config.runs_dir) / config.run)
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
