"""Under pytest an expected failure is an xfail, and one that passes is a failure."""

import subprocess
import sys
import textwrap


def test_expected_failures_are_xfails(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            from cellweave.testing import TokenizerSuite

            class TestToken(TokenizerSuite):
                expected_failures = {
                    "test_names_its_modality": "has none",
                    "test_constructor_takes_keywords_only": "it does, in truth",
                }
                def create(self, **arguments):
                    return type("T", (), {"modality": ""})()
            """
        )
    )
    chosen = "names_its_modality or keywords_only"
    command = [sys.executable, "-m", "pytest", "-q", "-rxf", "-k", chosen, str(tmp_path)]
    done = subprocess.run(  # noqa: PLW1510 - a failure is wanted
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert "1 failed" in done.stdout
    assert "1 xfailed" in done.stdout
    assert "has none" in done.stdout
    assert "Take it out of `expected_failures`" in done.stdout
