"""What the README says is true."""

import re

from helpers_docs import ROOT, commands, overrides

README = (ROOT / "README.md").read_text()


def test_the_gymnasium_example_runs() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code and len([line for line in code.group(1).splitlines() if line]) <= 10
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


def test_every_source_is_described() -> None:
    from pipeline.config import choices

    section = README[README.index("## Your own cohort") : README.index("## What it does not do")]
    for choice in choices("data"):
        assert choice == "reference" or f"`{choice}`" in section, choice
        assert f"`{choice}`" in (ROOT / "data/README.md").read_text(), choice
    assert len(overrides(section)) >= 5


def test_its_commands_are_taken() -> None:
    from pipeline.config import load_config

    for script, *_ in commands(README):
        assert script == "-m" or (ROOT / script).is_file(), script
    for words in overrides(README):
        load_config(words)
