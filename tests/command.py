"""Runs the installed `imgbuild` as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]

IMGBUILD = Path(sys.executable).with_name("imgbuild")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of the command did."""

    code: int
    out: str
    err: str


def imgbuild(site: Path, *words: str, store: Path | None = None) -> Outcome:
    """Run `imgbuild -C site words…`, by default with the store in the site's directory."""
    done = subprocess.run(
        [IMGBUILD, *words], env=environment(site, store), capture_output=True, text=True, check=False, timeout=900
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)


def environment(site: Path, store: Path | None = None) -> dict[str, str]:
    """The environment that makes `imgbuild` work on `site`."""
    where = {"IMGBUILD_DIRECTORY": str(site), "IMGBUILD_STORE": str(store or site / "store")}
    return {**os.environ, **where, "NO_COLOR": "1", "COLUMNS": "200"}
