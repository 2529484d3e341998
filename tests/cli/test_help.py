"""The command line answers at once, and every command explains itself."""

import os
import subprocess
import sys

import pytest

from medvlm.cli import COMMANDS

HEAVY = ("torch", "monai", "lightning", "transformers", "peft", "pandas", "scipy")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from medvlm.cli import main; main(['--help']); "
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_help_takes_less_than_half_a_second():
    """Processor time, the best of three: what other processes do to this machine does not count."""
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "medvlm.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))  # user and system time of children
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(command, medvlm_command):
    outcome = medvlm_command(command, "--help")
    assert outcome.code == 0
    assert "Example:  medvlm " in outcome.out or "Example: medvlm " in outcome.out


def test_print_config_gives_yaml_of_the_options(medvlm_command):
    outcome = medvlm_command("report", "some/study", "--print_config")
    assert outcome.code == 0
    assert "modality: null" in outcome.out


def test_config_file_sets_options(tmp_path, medvlm_command):
    (tmp_path / "report.yaml").write_text(f"study: {tmp_path / 'nowhere'}\n")
    outcome = medvlm_command("report", "--config", tmp_path / "report.yaml")
    assert outcome.code == 2
    assert "nowhere" in outcome.err


def test_version(medvlm_command):
    import medvlm

    assert medvlm_command("--version").out.strip() == f"medvlm {medvlm.__version__}"
