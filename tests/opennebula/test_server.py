"""The client against the stand-in: what it reads, and what it makes of each failure."""

import socket
import sys
import time
from pathlib import Path

import pytest

from imagebuilder.errors import HostError, RemoteError, UsageError
from imagebuilder.opennebula.calls import AnswerLostError, NotThereError, WrongStateError
from imagebuilder.opennebula.template import Template, single, vector
from tests.opennebula.clusters import apply, client, running, small_cluster, wanted
from tests.opennebula.endpoint import How, serving
from tests.opennebula.oned import Oned
from tests.opennebula.state import PASSWORD
from tests.test_ec2_connection import certified


def test_the_server_says_its_release() -> None:
    with running() as (_, server):
        assert server.version() == "7.2.0"


def test_what_was_made_is_read_back(tmp_path: Path) -> None:
    with running() as (_, server):
        apply(server, *small_cluster(tmp_path))

        [network] = server.find_own("network")
        [image] = server.find_own("image")

    assert (network.name, [one.ip for one in network.ranges]) == ("squirrel-private", ["10.1.1.55", "10.1.1.99"])
    assert (image.name, image.state, image.is_persistent) == ("squirrel-local01-1111", "READY", False)


def test_several_attributes_of_a_name_and_every_character_come_back() -> None:
    disks = [vector("DISK", IMAGE="a"), vector("DISK", IMAGE='b "c" \\ <&> ]] é')]
    template = Template(attributes=(single("NAME", "t"), *disks, single("NOTE", "two\nlines")))
    with running() as (_, server):
        found = server.look("template", server.make_template(template))

    assert found.template.vectors("DISK") == tuple(disks)
    assert found.template.get("NOTE") == "two\nlines"


def test_own_objects_are_those_of_the_user() -> None:
    with running() as (endpoint, admin):
        alice = client(endpoint.url, session="alice:wonderland")
        admin.make_template(wanted("template", "NAME = same").template)
        made = alice.make_template(wanted("template", "NAME = same").template)

        assert [one.id for one in alice.find_own("template")] == [made]


@pytest.mark.parametrize(("word", "id_"), [("default", 1), ("1", 1)])
def test_a_datastore_is_found_by_name_and_by_id(word: str, id_: int) -> None:
    with running() as (_, server):
        assert server.find_datastore(word) == id_


@pytest.mark.parametrize("word", ["defualt", "system", "0", "files"])
def test_a_datastore_that_takes_no_images_is_refused(word: str) -> None:
    with running() as (_, server), pytest.raises(UsageError) as error:
        server.find_datastore(word)

    assert "for images" in str(error.value)
    assert "default" in str(error.value)


def test_a_wrong_password_says_where_the_right_one_goes() -> None:
    with running(session="oneadmin:wrong-Pa55word") as (endpoint, server), pytest.raises(RemoteError) as error:
        server.version()

    assert str(error.value) == (
        f"{endpoint.url}: one.system.version: User couldn't be authenticated, aborting call.\n"
        "  fix: write the user and password of OpenNebula into the file ONE_AUTH, or ~/.one/one_auth"
    )


def test_what_a_user_may_not_do_is_said_in_oneds_words() -> None:
    with running(session="alice:wonderland") as (_, server), pytest.raises(RemoteError) as error:
        server.make_network(wanted("network", "NAME = n VN_MAD = dummy BRIDGE = b").template)

    assert "one.vn.allocate: User [2] : Not authorized to perform CREATE NET ." in str(error.value)


def test_what_is_not_there_is_an_error_of_its_own() -> None:
    with running() as (_, server), pytest.raises(NotThereError, match=r"Error getting image \[99\]"):
        server.look("image", 99)


def test_what_is_not_ready_is_an_error_of_its_own() -> None:
    with running() as (_, server):
        made = server.make_network(wanted("network", "NAME = n VN_MAD = dummy BRIDGE = b").template)

        with pytest.raises(WrongStateError, match="READY"):
            server.remove_range(made, 0)


def test_a_server_that_is_down_says_how_to_reach_it() -> None:
    with running() as (endpoint, _):
        url = endpoint.url

    with pytest.raises(RemoteError) as error:
        client(url).version()

    assert str(error.value) == (
        f"{url}: one.system.version: there is no connection\n  fix: start oned, or set ONE_XMLRPC to where it listens"
    )
    assert not isinstance(error.value, AnswerLostError)


def test_a_server_without_tls_is_no_https() -> None:
    with running() as (endpoint, _), pytest.raises(RemoteError, match="TLS"):
        client(endpoint.url.replace("http:", "https:")).version()


def test_a_certificate_that_the_environment_trusts_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, file = certified(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))

    with serving(Oned(), tls=context) as endpoint:
        assert client(endpoint.url).version() == "7.2.0"


def test_a_certificate_of_nobody_known_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = certified(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)

    with serving(Oned(), tls=context) as endpoint, pytest.raises(RemoteError) as error:
        client(endpoint.url).version()

    assert "one.system.version: TLS: " in str(error.value)
    assert error.value.fix == "have REQUESTS_CA_BUNDLE name the certificate of who signed it"
    assert endpoint.methods == []


def test_trusted_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none.pem")

    with pytest.raises(RemoteError, match=r"/none\.pem"):
        client("https://127.0.0.1:9/RPC2").version()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("drop", "the connection was lost"),
        ("lose", "the connection was lost"),
        ("gateway", "HTTP status 502"),
        ("redirect", "HTTP status 307"),
        ("babble", "the answer cannot be read"),
        ("mirror", "the answer cannot be read"),
    ],
)
def test_an_answer_that_does_not_come_may_have_been_done(how: How, words: str) -> None:
    with running() as (endpoint, server):
        endpoint.faults[0] = how

        with pytest.raises(AnswerLostError) as error:
            server.version()

    assert words in str(error.value)
    assert PASSWORD not in f"{error.value} {error.value!r}"


def test_a_redirection_is_not_followed() -> None:
    with running() as (endpoint, server):
        endpoint.faults[0] = "redirect"

        with pytest.raises(AnswerLostError):
            server.version()

        assert endpoint.methods == ["one.system.version"]


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_call_that_hangs_ends(how: How) -> None:
    with running(timeout_s=0.4) as (endpoint, server):
        endpoint.faults[0] = how
        began = time.monotonic()

        with pytest.raises(AnswerLostError, match="there was no answer in time"):
            server.version()

        assert time.monotonic() - began < 3


def test_an_error_of_oned_shows_no_password() -> None:
    with running() as (endpoint, server):
        endpoint.faults[0] = "gossip"

        with pytest.raises(RemoteError) as error:
            server.version()

    assert "the session <secret> is odd" in str(error.value)
    assert PASSWORD not in f"{error.value} {error.value!r}"


def test_other_sockets_keep_their_limits_of_time() -> None:
    with running(timeout_s=0.4) as (_, server):
        server.version()

    assert socket.getdefaulttimeout() is None


def test_without_pyone_the_fix_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyone", None)

    with pytest.raises(HostError) as error:
        client("http://localhost/RPC2")

    assert str(error.value) == "pyone is not installed\n  fix: pip install 'imgbuild[opennebula]'"
