"""What the README says is true."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_gymnasium_example_runs() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    scope: dict[str, object] = {}
    exec(code.group(1), scope)
    assert 0 <= scope["info"]["risk"] <= 1  # type: ignore[index]


def test_the_files_it_names_are_there() -> None:
    for path in re.findall(r"`([\w/.-]+\.(?:yaml|py|md))`", README) + re.findall(r"\]\(([\w/.-]+)\)", README):
        if path not in ("run_pipeline.py",):
            assert (ROOT / path).exists(), path


def test_every_stage_is_listed() -> None:
    from pipeline.stages import STAGES

    for stage in STAGES:
        assert f"| `{stage.name}` |" in README


def test_every_source_is_described_and_its_commands_are_right() -> None:
    from pipeline.config import check_command_line, choices

    section = README[README.index("## Your own cohort") : README.index("## What it does not do")]
    for choice in choices("data"):
        assert choice == "reference" or f"`{choice}`" in section, choice
        assert f"`{choice}`" in (ROOT / "data/README.md").read_text(), choice
    commands = re.findall(r"python run_pipeline.py (.*)", section)
    assert len(commands) >= 5
    for command in commands:
        check_command_line(command.split())
