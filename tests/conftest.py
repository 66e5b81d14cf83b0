import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from imagebuilder.cli import main
from tests.command import Run

# The same examples in every run, however slow the machine; nothing is kept between runs.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs `imgbuild` in this process and an empty directory: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    on_termination = signal.getsignal(signal.SIGTERM)

    def imgbuild(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imgbuild", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return code, said.out, said.err

    yield imgbuild
    signal.signal(signal.SIGTERM, on_termination)
