from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MUTANTS = 300


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_damaged_and_hostile_files_end_in_a_clear_error_or_a_right_image(tmp_path):
    report = tmp_path / "report.md"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "fuzz.py", "--mutants", str(MUTANTS), "--seed", "1", "--write", report],
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=380,
    )
    assert not done.returncode, done.stdout + done.stderr
    text = report.read_text(encoding="utf-8")
    assert text in done.stdout
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| (\d+) \| 0 \| ([\d.]+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 20
    assert rows[-1][:2] == ("all", str(MUTANTS))
    assert int(rows[-1][2]) > 100 < int(rows[-1][3])
