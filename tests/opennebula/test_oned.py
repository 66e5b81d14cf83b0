"""The stand-in itself: that it is as strict as oned is, and that its XML is what pyone's bindings expect."""

import inspect
from pathlib import Path
from xml.etree import ElementTree as ET

import pyone.bindings
import pytest

from tests.opennebula.oned import SIGNATURES, Oned, SignatureError
from tests.opennebula.state import ACTION, ALLOCATE, API, AUTHENTICATION, AUTHORIZATION, INTERNAL, NO_EXISTS, PASSWORD

SESSION = f"oneadmin:{PASSWORD}"
ALICE = "alice:wonderland"
NETWORK = 'NAME = private VN_MAD = bridge BRIDGE = xenbr0 AR = [ TYPE = IP4, IP = "10.1.1.1", SIZE = 254 ]'
MACHINE = 'NAME = local01 CPU = 1 MEMORY = 512 DISK = [ IMAGE = disk ] NIC = [ NETWORK = private, IP = "10.1.1.55" ]'
# Those that the schema has as optional, and oned leaves out where there is nothing to say.
OPTIONAL = {"LOCK", "SNAPSHOTS", "BACKUPS"}


@pytest.fixture
def oned(tmp_path: Path) -> Oned:
    """One with an image, a network, a template and a host, all of oneadmin and ready."""
    (tmp_path / "disk").touch()
    oned = Oned(polls_until_ready=0)
    done(oned, "one.vn.allocate", NETWORK, -1)
    done(oned, "one.image.allocate", f'NAME = disk PATH = "{tmp_path}/disk" TYPE = OS', 1)
    done(oned, "one.template.allocate", MACHINE)
    done(oned, "one.host.allocate", "host01", "kvm", "kvm", -1)
    done(oned, "one.vn.info", 0)
    done(oned, "one.image.info", 1)
    return oned


def done(oned: Oned, method: str, *arguments: object) -> object:
    is_done, value, _ = oned.answer(method, (SESSION, *arguments))
    assert is_done, value
    return value


def test_every_call_that_is_documented_here_can_be_answered() -> None:
    missing = [name for name in SIGNATURES if not hasattr(Oned, name.removeprefix("one.").replace(".", "_"))]

    assert missing == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("one.image.info", ("0",)),
        ("one.image.info", ()),
        ("one.image.info", (True,)),
        ("one.image.info", (0, False, 1)),
        ("one.image.allocate", ("NAME = a",)),
        ("one.template.instantiate", (0,)),
        ("one.template.instantiate", (0, "", "no")),
        ("one.image.frobnicate", (0,)),
    ],
)
def test_a_call_with_other_arguments_is_none(oned: Oned, method: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(SignatureError):
        oned.answer(method, (SESSION, *arguments))


@pytest.mark.parametrize(
    ("session", "method", "arguments", "code", "words"),
    [
        ("oneadmin:x", "one.system.version", (), AUTHENTICATION, "User couldn't be authenticated, aborting call."),
        (SESSION, "one.template.info", (99,), NO_EXISTS, "Error getting VM template [99]."),
        (SESSION, "one.imagepool.info", (-9, -1, -1), API, "Incorrect filter_flag"),
        (SESSION, "one.template.allocate", ("NAME = local01",), ALLOCATE, "NAME is already taken by TEMPLATE 2."),
        (SESSION, "one.template.allocate", ("NAME = a/b",), ALLOCATE, "Invalid NAME."),
        (SESSION, "one.template.allocate", ("NAME = [",), INTERNAL, "syntax error, unexpected END"),
        (SESSION, "one.template.update", (2, "A = 1", 2), API, "Wrong update type"),
        (SESSION, "one.image.allocate", ("NAME = b", 1), ALLOCATE, "No PATH nor SOURCE in template."),
        (SESSION, "one.image.allocate", ('NAME = b PATH = "/none"', 1), INTERNAL, "Cannot determine Image SIZE."),
        (SESSION, "one.image.allocate", ("NAME = b PATH = c", 0), ALLOCATE, "in a system datastore."),
        (SESSION, "one.image.allocate", ("NAME = b PATH = c", 9), NO_EXISTS, "Error getting datastore [9]."),
        (SESSION, "one.vn.allocate", ("NAME = b", -1), ALLOCATE, "No VN_MAD in template for Virtual Network."),
        (
            SESSION,
            "one.vn.allocate",
            ("NAME = b VN_MAD = bridge", -1),
            ALLOCATE,
            "BRIDGE is mandatory",
        ),
        (SESSION, "one.vn.add_ar", (0, "A = 1"), INTERNAL, "AR vector attribute is missing."),
        (SESSION, "one.vn.rm_ar", (0, 7), ACTION, "Address Range does not exist"),
        (
            ALICE,
            "one.template.update",
            (2, "A = 1", 0),
            AUTHORIZATION,
            "Not authorized to perform MANAGE TEMPLATE",
        ),
        (ALICE, "one.vn.allocate", ("NAME = b", -1), AUTHORIZATION, "Not authorized to perform CREATE NET ."),
        (ALICE, "one.template.instantiate", (2, ""), AUTHORIZATION, "Not authorized to perform USE TEMPLATE [2]."),
    ],
)
def test_what_oned_refuses_is_refused_in_its_words(
    *, oned: Oned, session: str, method: str, arguments: tuple[object, ...], code: int, words: str
) -> None:
    is_done, what, found = oned.answer(method, (session, *arguments))

    assert (is_done, found) == (False, code)
    assert str(what).startswith(f"[{method}] ")
    assert words in str(what)


def test_what_machines_use_cannot_be_deleted(oned: Oned) -> None:
    done(oned, "one.template.instantiate", 2, "")

    refused = [oned.answer(method, (SESSION, id_)) for method, id_ in (("one.image.delete", 1), ("one.vn.delete", 0))]

    assert [code for _, _, code in refused] == [ACTION, ACTION]


def test_an_address_is_leased_once(oned: Oned) -> None:
    done(oned, "one.template.instantiate", 2, "")

    _, what, code = oned.answer("one.template.instantiate", (SESSION, 2, ""))

    assert (code, str(what).rpartition(". ")[2]) == (ALLOCATE, "Cannot get IP/MAC lease from virtual network 0.")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("one.image.info", (1,)),
        ("one.vn.info", (0,)),
        ("one.template.info", (2,)),
        ("one.host.info", (3,)),
        ("one.vm.info", (4,)),
        ("one.datastorepool.info", ()),
        ("one.imagepool.info", (-3, -1, -1)),
        ("one.vnpool.info", (-2, -1, -1)),
        ("one.templatepool.info", (-1, -1, -1)),
        ("one.hostpool.info", ()),
        ("one.vmpool.info", (-2, -1, -1, -1)),
    ],
)
def test_answers_have_the_elements_of_the_bindings_and_in_their_order(
    oned: Oned, method: str, arguments: tuple[object, ...]
) -> None:
    done(oned, "one.template.instantiate", 2, "")

    xml = str(done(oned, method, *arguments))

    element = ET.fromstring(xml)  # noqa: S314 - the stand-in's own
    shown = element[0] if method.endswith("pool.info") else element
    bound = pyone.bindings.parseString(xml.encode())
    bound = getattr(bound, shown.tag)[0] if shown is not element else bound
    elements = [name for name in inspect.signature(type(bound).__init__).parameters if name.isupper()]
    assert [one.tag for one in shown if one.tag not in OPTIONAL] == [one for one in elements if one not in OPTIONAL]
