"""The command: checks the line, runs the stages through Hydra, and ends with one line where something is wrong."""

import errno
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from core.errors import ConfigError, ManoError
from pipeline import console as screen
from pipeline.audit import audit, recorded
from pipeline.compare import compare_runs
from pipeline.config import CONF, Config, build, check_command_line, plain
from pipeline.dataset import export_dataset
from pipeline.exports.command import export
from pipeline.journey import show_journey
from pipeline.off_policy_table import off_policy_table
from pipeline.predict import predict
from pipeline.prescription_table import treatment_report
from pipeline.quality_table import QUALITY_STAGES, stage_quality
from pipeline.risk_table import risk_report
from pipeline.runner import run_stage, stale_needs
from pipeline.stages import STAGES
from pipeline.store import RunStore, write_bytes, write_json
from pipeline.sweep import take_stages, with_own_runs
from pipeline.terminal.stage_table import StageScreen
from pipeline.trial import show_trial

# What reads a finished run and changes none of its stages.
COMMANDS = {
    "journey": show_journey,
    "trial": show_trial,
    "compare": compare_runs,
    "audit": audit,
}
# What reads one as well and writes files of its own, which it returns: these are recorded.
WRITING = {"predict": predict, "dataset": export_dataset, "export": export}
FAILED, USAGE, INTERRUPTED = 1, 2, 130
READ_ONLY = "choose a folder you may write to with runs_dir="
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.EROFS: READ_ONLY,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
}
# What belongs to one command, not to the run.
PER_COMMAND = ("stage", "run", "base", "compare", "force", "patient", "input", "predict", "dataset", "export")


def run(arguments: Sequence[str]) -> int:
    """The exit status of the command with these arguments."""
    with one_line_errors(arguments):
        arguments = with_own_runs(arguments)
        check_command_line(arguments)
        sys.argv[1:] = arguments  # where Hydra reads them
        _hydra_main()
    return 0


def but_the_writers(args: threading.ExceptHookArgs) -> None:
    """Say what ended a thread, but for TensorBoard's writer: its error (a full disk) is raised in the main thread too."""
    if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
        threading.__excepthook__(args)


@contextmanager
def one_line_errors(arguments: Sequence[str]) -> Iterator[None]:
    """What a user can act on ends the program with one line; anything else is a bug and keeps its traceback."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    threading.excepthook = but_the_writers  # for good: the thread may end after this does
    try:
        yield
    except ManoError as error:
        message, status = " ".join(str(error).split()), USAGE if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        message, status = f"interrupted; finished stages are kept, continue with: {again(arguments)}", INTERRUPTED
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "put that right")
        message = (
            f"{where}{error.strerror}; earlier results are untouched; {remedy}, and continue with: {again(arguments)}"
        )
        status = FAILED
    else:
        return
    errors.print(f"[red]error:[/] {escape(message)}")
    sys.exit(status)


def again(arguments: Sequence[str]) -> str:
    """The same command, as a shell takes it."""
    return shlex.join(["python", "run_pipeline.py", *arguments])


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _hydra_main(composed: DictConfig) -> None:
    # Inside the job as well: Hydra would report an exception in its own words, but lets an exit pass.
    with one_line_errors(sys.argv[1:]):
        execute(build(composed), screen.console(), HydraConfig.get().overrides.task)


def execute(config: Config, console: Console, overrides: Sequence[str] = ()) -> None:
    """Run what the configuration asks for; ``overrides`` are the words it was asked with."""
    options = " ".join(word for word in overrides if re.split(r"[=.]", word.lstrip("+~"))[0] not in PER_COMMAND)
    store = RunStore(Path(config.runs_dir) / config.run, options)
    if config.stage in WRITING:
        files = [Path(path) for path in (config.input, config.predict.profiles) if path]
        with recorded(store, config, config.stage, overrides, files) as record:
            record.outputs = WRITING[config.stage](config, store, console)
        return
    if config.stage in COMMANDS:
        COMMANDS[config.stage](config, store, console)
        return
    started = time.time()
    with store.lock():
        store.sweep()
        screen.banner(console, config)
        take_stages(config, store, console)
        wanted = [stage for stage in STAGES if config.stage in ("all", stage.name)]
        shown = StageScreen(console, [stage.name for stage in wanted])
        with shown.showing():
            for stage in wanted:
                if config.stage != "all" and config.base is None:
                    for name in stale_needs(stage, STAGES, config, store):
                        console.print(
                            f"  [yellow]note[/] stage '{name}' was made with other settings than these, and is used as it is"
                        )
                shown.begin(stage.name)
                with recorded(store, config, stage.name, overrides, stage.files(config)) as record:
                    record.ran = ran = run_stage(stage, config, store, console, force=config.force)
                shown.end(stage.name, ran, screen.headline(stage.name, store.metrics(stage.name)))
                if config.stage in QUALITY_STAGES or (ran and stage.name == "cohort"):
                    console.print(stage_quality(stage.name, store))
                if config.stage == "risk":
                    console.print(risk_report(store.metrics("risk")))
                if config.stage == "evaluate":
                    console.print(treatment_report(store.metrics("evaluate")))
                if stage.name == "evaluate" and "off_policy" in store.metrics("evaluate"):
                    console.print(off_policy_table(store.metrics("evaluate")["off_policy"]))
                if stage.name == "report":
                    write_bytes(store.root / "summary.json", store.read("report", "summary.json"))
        write_json(store.root / "config.json", {"options": options, "config": plain(config)})
    if config.stage == "all":
        screen.finish(console, store, time.time() - started)
        show_journey(config, store, console)
