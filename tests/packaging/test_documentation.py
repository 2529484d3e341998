"""The documentation tells the truth: its commands parse, its links lead somewhere, its site builds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medvlm import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))


def commands_of(page: Path) -> list[str]:
    """The `$ medvlm ...` lines of a page's console blocks, joined over backslashes, without comments."""
    blocks = re.findall(r"```(?:console|bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?medvlm\b", line)]


DOCUMENTED = [(page.name, command) for page in PAGES for command in commands_of(page)]


@pytest.mark.parametrize(("page", "command"), DOCUMENTED)
def test_documented_command_has_the_options_it_is_shown_with(page, command):
    name, *arguments = shlex.split(re.sub(r"<([^>]*)>", "placeholder", command), comments=True)[1:] or ["--help"]
    if name in ("--help", "--version") or "--help" in arguments:
        return
    assert name in cli.COMMANDS
    if name in cli.LIGHTNING:
        return  # Lightning's own parser needs the configs; the training tests run those
    module = __import__(cli.COMMANDS[name][0], fromlist=["COMMAND"])
    if hasattr(module, "MAIN"):
        return  # takes the options of Lightning's parser
    program, function, given = cli.find_function(f"medvlm {name}", module, arguments)
    cli.function_parser(program, function).parse_args(given)


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_relative_links_lead_to_files(page):
    path = next(item for item in PAGES if item.name == page)
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{page} links to {target}"


def test_every_page_is_in_the_navigation():
    # mkdocs.yml holds no Python tags, so the safe loader reads it.
    nav = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in nav] == []


def test_every_command_is_documented():
    assert {command.split()[1] for _, command in DOCUMENTED if len(command.split()) > 1} >= set(cli.COMMANDS)


@pytest.mark.slow
def test_site_builds_strictly(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = "\n".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html"))
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', pages)
    assert [address for address in loaded if "github.com" not in address] == []
