import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.page import render_page
from tests.pages import elements, with_class
from tests.reports import make_hostile_report, make_report

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]


def test_the_fragment_shows_the_failed_checks_only(tmp_path: Path) -> None:
    dom, console = opened(make_report(), "#failed", tmp_path)

    shown = [one for one in with_class(dom, "check") if "hidden" not in one.attributes]

    assert console == []
    assert [one.attributes["data-verdict"] for one in shown] == ["failed"]
    assert "1 of 26 shown" in dom


def test_a_link_to_a_check_opens_it(tmp_path: Path) -> None:
    dom, console = opened(make_report(), "#check-jobs.one", tmp_path)

    in_view = [one for one in elements(dom, "details") if "open" in one.attributes]

    assert console == []
    assert [one.text.split()[2] for one in in_view] == ["vpn.all_joined", "jobs.one"]
    assert "26 of 26 shown" in dom


def test_hostile_output_runs_nothing(tmp_path: Path) -> None:
    hostile = "</pre></title><script>document.body.id = 'taken'</script><img src=x onerror=alert(1)>"

    dom, console = opened(make_hostile_report(hostile), "", tmp_path)

    assert console == []
    assert "id" not in elements(dom, "body")[0].attributes
    assert elements(dom, "img") == []


def opened(report: Report, fragment: str, directory: Path) -> tuple[str, list[str]]:
    """What Chromium makes of the report's page, and what it says on its console."""
    page = directory / "page.html"
    page.write_text(render_page(report), encoding="utf-8")
    assert CHROMIUM is not None
    options = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={directory / 'profile'}"),
        *("--enable-logging=stderr", "--dump-dom", f"{page.as_uri()}{fragment}"),
    )
    done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
