"""PixelMed's validator, written independently of the library that writes the objects, knows their templates."""

import shutil
import subprocess
from pathlib import Path

import pytest

from medvlm.imaging.reader import load_study
from tests.reporting import dicom_inputs
from tests.reporting.reading import report_of

JAR = Path("/usr/share/java/pixelmed.jar")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not JAR.exists() or not shutil.which("java"), reason="libpixelmed-java is not installed"),
]


def test_the_root_templates_are_found(tmp_path):
    pytest.importorskip("highdicom", reason="needs medvlm-specialist[dicom]")
    report_of(load_study(dicom_inputs.write_slices(tmp_path / "in")), tmp_path / "out")
    # Current Java limits the size of XPath expressions below what the validator needs.
    limits = [f"-Djdk.xml.{name}=0" for name in ("xpathTotalOpLimit", "xpathExprOpLimit", "xpathExprGrpLimit")]
    for name, template in (("sr", "TID_1500"), ("narrative", "TID_2000"), ("selection", "TID_2010")):
        command = ["java", *limits, "-cp", "/usr/share/java/*", "com.pixelmed.validate.DicomSRValidator"]
        done = subprocess.run([*command, tmp_path / "out" / "dicom" / f"{name}.dcm"], capture_output=True, text=True)
        assert template in done.stdout + done.stderr
        assert "Root Template Validation Complete" in done.stdout + done.stderr
