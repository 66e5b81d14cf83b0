from pathlib import Path

import pytest

from imagebuilder.errors import HostError, UsageError
from imagebuilder.opennebula.login import find_login


def home_with(directory: Path, **files: str) -> Path:
    (directory / ".one").mkdir()
    for name, text in files.items():
        (directory / ".one" / name).write_text(text)
    return directory


def test_the_login_is_that_of_opennebulas_own_tools(tmp_path: Path) -> None:
    login = find_login({}, home_with(tmp_path, one_auth="alice:wonder:land\n"))

    assert (login.endpoint, login.user) == ("http://localhost:2633/RPC2", "alice")
    assert login.session.reveal() == b"alice:wonder:land"


def test_the_environment_goes_before_the_files(tmp_path: Path) -> None:
    home = home_with(tmp_path, one_auth="alice:x", one_endpoint="http://one.example:2633/RPC2", other="bob:secret")

    login = find_login({"ONE_AUTH": str(home / ".one/other"), "ONE_XMLRPC": "https://tls.example/RPC2"}, home)

    assert (login.endpoint, login.user) == ("https://tls.example/RPC2", "bob")


def test_the_endpoint_may_stand_in_a_file(tmp_path: Path) -> None:
    home = home_with(tmp_path, one_auth="alice:x", one_endpoint="http://one.example:2633/RPC2\n")

    assert find_login({}, home).endpoint == "http://one.example:2633/RPC2"


def test_a_login_does_not_show_its_password(tmp_path: Path) -> None:
    login = find_login({}, home_with(tmp_path, one_auth="alice:wonderland"))

    assert "wonderland" not in f"{login} {login!r}"


def test_without_a_file_the_fix_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(HostError) as error:
        find_login({}, tmp_path)

    assert str(error.value) == (
        f"{tmp_path}/.one/one_auth: cannot read who you are for OpenNebula: No such file or directory\n"
        "  fix: write user:password into ~/.one/one_auth, mode 0600, or set ONE_AUTH to such a file"
    )


@pytest.mark.parametrize("text", ["", "wonderland", ":wonderland", "alice:", "alice:wonderland\nbob:builder"])
def test_a_file_that_has_no_login_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(HostError, match="holds no user:password") as error:
        find_login({}, home_with(tmp_path, one_auth=text))

    assert "wonderland" not in str(error.value)


@pytest.mark.parametrize("url", ["localhost:2633", "ftp://one/RPC2", "http://", "http://one:port/RPC2", "http://[1/"])
def test_an_endpoint_that_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="no URL of http or https") as error:
        find_login({"ONE_XMLRPC": url}, home_with(tmp_path, one_auth="alice:x"))

    assert error.value.where == "ONE_XMLRPC"


@pytest.mark.parametrize("url", ["http://alice:wonderland@one:2633/RPC2", "alice:wonderland@one:2633"])
def test_a_password_in_the_endpoint_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as error:
        find_login({"ONE_XMLRPC": url}, home_with(tmp_path, one_auth="alice:x"))

    assert "wonderland" not in str(error.value)
