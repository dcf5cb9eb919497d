"""What a terminal shows: nothing cut off at any width, plain lines where it cannot be drawn over."""

import io
import os
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from itertools import pairwise

import pytest
from conftest import ROOT
from rich.console import Console

from pipeline.console import policy_table
from pipeline.store import RunStore
from pipeline.terminal.stage_table import Row, StageScreen, stage_table
from pipeline.terminal.table import SOFT, Table, paragraph
from pipeline.tracker import RunTracker

WIDTHS = (40, 60, 80, 120)
ROW = {"return": 3.5, "return_ci": [3.25, 3.75], "remission": 0.375, "weeks_to_remission": 9.5, "dose_weeks": 6.25,
       "adverse_events": 0.125, "level_gain": 0.625}  # fmt: skip
EVALUATE = {"weeks": 12, "confidence": 0.95, "best_constant": "cbt_0.7",
            "policies": dict.fromkeys(("ppo", "none", "greedy", "privileged", "best_constant"), ROW)}  # fmt: skip


def drawn(what: object, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(what)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_policies_is_whole_at_every_width(width: int) -> None:
    lines = drawn(policy_table(EVALUATE), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    numbers = ("3.50 (3.25 to 3.75)", "37.5%", "9.5", "6.25", "0.12", "+0.62")
    assert all(text.count(each) >= len(EVALUATE["policies"]) for each in numbers)
    assert "one step ahead in the Twin" in text
    header = next(line for line in lines if "policy" in line) if width >= 80 else ""
    assert (header == "") == (width < 80)  # a list where there is no room for a table


def test_a_table_that_does_not_fit_names_every_number() -> None:
    table = Table(title="Found")
    for header in ("who", f"remis{SOFT}sion", "dose-\nweeks", "lasting\neffect"):
        table.add_column(header, no_wrap=True)
    table.add_row("the first", "12 %", "", "[bold]none[/]")
    assert "remis-" in "".join(drawn(table, 60))
    assert drawn(table, 30) == ["Found", "  the first", "    remission 12 %, lasting", "    effect none"]


def test_words_keep_to_the_width_and_to_a_line_that_can_be_read() -> None:
    text = "word " * 60
    assert max(map(len, drawn(paragraph(text), 40))) <= 40
    assert max(map(len, drawn(paragraph(text), 200))) <= 98


@pytest.mark.parametrize("width", WIDTHS)
def test_the_stages_of_a_run_are_whole_at_every_width(width: int) -> None:
    rows = [Row("profiles", "done", 0.0, 61.25, "shapes 0.975 (ceiling 0.980), C2ST 0.549"), Row("evaluate")]
    lines = drawn(stage_table(rows, width), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for word in ("profiles", "61.2 s", "0.980", "0.549", "evaluate"):
        assert word in text
    assert ("waiting" in text) == (width >= 60)


def test_stages_are_single_plain_lines_where_nothing_can_be_drawn_over() -> None:
    file = io.StringIO()
    shown = StageScreen(Console(file=file, width=80), ["source", "profiles"])
    with shown.showing():
        for name, ran in (("source", True), ("profiles", False)):
            shown.begin(name)
            shown.end(name, ran, "persons 7")
    assert [line.split() for line in file.getvalue().splitlines()] == [
        ["✓", "source", "0.0", "s", "persons", "7"],
        ["=", "profiles", "skipped", "persons", "7"],
    ]


def test_a_terminal_shows_the_stage_that_failed_and_bars_below_the_table() -> None:
    screen = Console(file=io.StringIO(), width=60, force_terminal=True, _environ={"TERM": "xterm"})
    shown, tracker = StageScreen(screen, ["source", "profiles"]), RunTracker(ROOT, screen)
    with pytest.raises(KeyboardInterrupt), shown.showing():
        shown.begin("source")
        assert list(tracker.track(range(3), "counting")) == [0, 1, 2]
        raise KeyboardInterrupt
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())  # type: ignore[attr-defined]
    assert "counting" in text and "ETA" in text
    last = text[text.rindex("stage") :]
    assert "✗ source" in last and "profiles" in last and "counting" not in last


def in_terminal(width: int, *arguments: str, **environment: str) -> str:
    """What the command writes to a terminal of this width."""
    terminal, other_end = os.openpty()
    ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = subprocess.Popen(
        [sys.executable, "run_pipeline.py", *arguments], cwd=ROOT, stdin=other_end, stdout=other_end, stderr=other_end,
        env={**known, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    os.close(other_end)
    said = b""
    try:
        while part := os.read(terminal, 65536):
            said += part
    except OSError:  # how a terminal says that the other end has left
        pass
    os.close(terminal)
    assert command.wait() == 0, said.decode()
    return said.decode()


def test_a_finished_run_on_a_terminal_of_60_columns(smoke: RunStore) -> None:
    said = in_terminal(60, "preset=smoke", f"runs_dir={smoke.root.parent}", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|9[0-7])m", said)  # bold and dim may stay, colours not
    said = re.sub(r"\x1b\[[0-9;]*m", "", said)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", said).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60
    assert "…" not in said
    marks = [line.split()[:3] for line in lines if line.startswith("=")]
    assert [mark[2] for mark in marks[-2:]] == ["kept", "kept"]
    places = [said.rindex(words) for words in ("stage", "done in", "prescription", "Policies in Trial")]
    assert all(one < next_one for one, next_one in pairwise(places[1:]))
