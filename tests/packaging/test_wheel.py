"""The built wheel in an empty environment: bundled and user content is found, from any folder."""

import os
import shutil
import site
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel and, through a path file, this environment's other packages."""

    folder: Path
    elsewhere: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, from a folder that is not the source tree."""
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MEDVLM_PATH")}
        program, *arguments = command
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.elsewhere,
            env=clean | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def python(self, code: str, **environment: str) -> str:
        return self.run("python", "-c", code, **environment).stdout.strip()

    @property
    def packages(self) -> Path:
        return Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = work.glob("*.whl")
    folder = work / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    environment = Installed(folder, elsewhere)
    # Path files inside these folders are not followed, so a source tree installed there as editable stays invisible.
    (environment.packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return environment


@pytest.fixture
def own_content(tmp_path) -> Path:
    """A content folder with a copy of the built-in expert under another name."""
    target = tmp_path / "content" / "experts" / "our_ct"
    shutil.copytree(ROOT / "experts" / "chest_ct", target)
    card = target / "findings.yaml"
    card.write_text(card.read_text().replace("name: chest_ct", "name: our_ct"))
    return tmp_path / "content"


def test_runs_from_the_environment_and_not_from_the_source_tree(installed):
    where = installed.python("import medvlm; print(medvlm.__file__)")
    assert Path(where).is_relative_to(installed.folder)
    assert "commands:" in installed.run("medvlm", "--help").stdout


def test_bundled_content_is_found(installed):
    assert "chest_ct" in installed.run("medvlm", "experts", "list").stdout
    code = (
        "from medvlm.content import list_content as c; print(*[len(c(k)) for k in ('experts','curricula','configs')])"
    )
    assert all(int(count) > 0 for count in installed.python(code).split())


def test_own_content_by_option(installed, own_content):
    assert "our_ct" in installed.run("medvlm", "experts", "list", "--content", f"[{own_content}]").stdout


def test_own_content_by_environment_variable(installed, own_content):
    listed = installed.run("medvlm", "experts", "list", MEDVLM_PATH=str(own_content)).stdout
    assert "our_ct" in listed
    assert "chest_ct" in listed


def test_own_content_by_entry_point(installed, own_content):
    package = installed.packages / "our_content"
    record = installed.packages / "our_content-1.0.dist-info"
    try:
        shutil.copytree(own_content, package)
        (package / "__init__.py").touch()
        record.mkdir()
        (record / "METADATA").write_text("Metadata-Version: 2.1\nName: our-content\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text("[medvlm.content]\nours = our_content\n")
        assert "our_ct" in installed.run("medvlm", "experts", "list").stdout
    finally:
        shutil.rmtree(package)
        shutil.rmtree(record)


def test_a_missing_content_folder_is_one_sentence(installed):
    done = installed.run("medvlm", "experts", "list", "--content", "[/no/such/folder]", check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "medvlm: --content /no/such/folder: no such folder."


def test_reports_from_the_wheel(installed, tmp_path):
    clinic, out = tmp_path / "clinic", tmp_path / "out"
    installed.run("medvlm", "phantom", "chest-ct", "--out", str(clinic), "--patients", "1", "--workers", "1")
    study = next(clinic.glob("*/dicom"))
    done = installed.run("medvlm", "report", str(study), "--out", str(out))
    assert "IMPRESSION" in done.stdout
    assert {path.name for path in out.iterdir()} >= {"key", "report.html", "report.json", "report.txt", "dicom"}
