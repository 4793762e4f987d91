"""What a machine lacks is named at the end of a run: never a failure, and never silent."""

from pathlib import Path

import pytest

from tests.stage.equipment import closing_line, debian_program

pytest_plugins = ["pytester"]


def test_a_program_that_cannot_be_had_skips_its_tests_and_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get either
    with pytest.raises(pytest.skip.Exception) as skipped:
        debian_program("no-such-program")
    assert str(skipped.value) == (
        "this machine lacks no-such-program (as root: apt-get install --no-install-recommends no-such-program)"
    )


def test_one_line_names_all_that_was_not_run() -> None:
    reasons = ["lacks pgbouncer (install pgbouncer)", "lacks a browser (install chromium)"]
    assert closing_line([]) is None
    assert closing_line([reasons[0], *reasons, reasons[0]]) == (
        "not run: 1 test: lacks a browser (install chromium); 3 tests: lacks pgbouncer (install pgbouncer)"
    )


def test_the_line_stands_at_the_end_of_a_run(pytester: pytest.Pytester, project: Path) -> None:
    pytester.makeconftest((project / "conftest.py").read_text(encoding="utf-8"))
    pytester.syspathinsert(project)
    pytester.makepyfile("""
        from tests.stage.equipment import not_run

        def test_of_a_rare_program():
            not_run("it", command="bring it")
    """)
    result = pytester.runpytest_subprocess("-ra", "-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    assert result.outlines[-2] == "not run: 1 test: this machine lacks it (bring it)"
