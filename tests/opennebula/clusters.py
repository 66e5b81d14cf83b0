"""What a small cluster wants of oned, and a server to ask for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuilder.opennebula.apply import Order, Patience, apply_plan, make_plan
from imagebuilder.opennebula.change_plan import ChangePlan
from imagebuilder.opennebula.login import Login
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.server import Server, open_server
from imagebuilder.opennebula.things import Drivers, Kind, Wanted
from imagebuilder.secret import Secret
from tests.opennebula.endpoint import Endpoint, serving
from tests.opennebula.oned import Oned
from tests.opennebula.state import PASSWORD

CLUSTER = "squirrel"
NETWORK = """NAME = "squirrel-private" VN_MAD = "dummy" BRIDGE = "xenbr0"
AR = [ TYPE = "IP4", IP = "10.1.1.55", MAC = "00:16:3e:03:90:41", SIZE = "1" ]
AR = [ TYPE = "IP4", IP = "10.1.1.99", MAC = "00:16:3e:03:90:42", SIZE = "1" ]
"""
MACHINE = """NAME = "local01" CPU = "1" MEMORY = "1024" DISK = [ IMAGE = "squirrel-local01-1111" ]
NIC = [ NETWORK = "squirrel-private", IP = "10.1.1.55" ] CONTEXT = [ NETWORK = "YES" ]
"""
# No time is lost in tests, but where one is about time.
PATIENCE = Patience(poll_s=0.01, image_s=5, network_s=5, undo_s=0.2, lost_s=0.02)


def wanted(kind: Kind, text: str) -> Wanted:
    """An object that is wanted, from its template."""
    template, faults = parse_template(text, Path("test"))
    assert not faults
    return Wanted(kind=kind, name=template.get("NAME") or "", template=template)


def image(disk: Path, key: str = "1111") -> Wanted:
    """An image that is wanted, of a build."""
    disk.touch()
    return wanted("image", f'NAME = "squirrel-local01-{key}" TYPE = "OS" PATH = "{disk}" DEV_PREFIX = "vd"')


def host(name: str = "host01") -> Wanted:
    """A host that is wanted."""
    drivers = Drivers(information="kvm", machines="kvm")
    return Wanted(kind="host", name=name, template=wanted("host", f"NAME = {name}").template, drivers=drivers)


def small_cluster(directory: Path) -> tuple[Wanted, ...]:
    """A network, an image, a template of a machine, and a host."""
    return (wanted("network", NETWORK), image(directory / "disk.raw"), wanted("template", MACHINE), host())


def changed_cluster(directory: Path) -> tuple[Wanted, ...]:
    """The same after a change of everything: a build, the memory, a machine less and one more."""
    network = NETWORK.replace("10.1.1.99", "10.1.1.56").replace("xenbr0", "xenbr7").replace(":41", ":44")
    machine = MACHINE.replace("1111", "2222").replace("1024", "2048").replace("CONTEXT", "FEATURES")
    new = image(directory / "disk.raw", "2222")
    return (wanted("network", network), new, wanted("template", machine), host())


@contextmanager
def running(
    oned: Oned | None = None, *, timeout_s: float = 5.0, session: str = ""
) -> Iterator[tuple[Endpoint, Server]]:
    """An oned and a client of it."""
    with serving(oned or Oned()) as endpoint:
        yield endpoint, client(endpoint.url, timeout_s=timeout_s, session=session)


def client(url: str, *, timeout_s: float = 5.0, session: str = "") -> Server:
    """A client of the oned at `url`, as oneadmin if no other is named."""
    login = Login(endpoint=url, user="oneadmin", session=Secret(session or f"oneadmin:{PASSWORD}"))
    return open_server(login, timeout_s=timeout_s)


def apply(server: Server, *things: Wanted, run: str = "run1", patience: Patience = PATIENCE) -> list[str]:
    """Plan and apply; the actions of the plan, as `create image NAME`."""
    plan = make_plan(things, server, cluster=CLUSTER)
    apply_planned(plan, server, run=run, patience=patience)
    return [f"{one.action} {one.wanted.kind} {one.wanted.name}" for one in plan.changes]


def apply_planned(plan: ChangePlan, server: Server, *, run: str = "run1", patience: Patience = PATIENCE) -> None:
    """Do what a plan says."""
    apply_plan(
        Order(plan=plan, cluster=CLUSTER, run=run, datastore="default", say=lambda _: None, patience=patience), server
    )


def snapshot(oned: Oned) -> list[tuple[object, ...]]:
    """All that oned has, with its templates and ranges, to compare before and after."""
    pools = (oned.images, oned.templates, oned.networks, oned.hosts)
    things = [
        (type(one).__name__, one.name, sorted(map(repr, one.attributes))) for pool in pools for one in pool.values()
    ]
    ranges = [(one.name, sorted((it.ip, it.mac, it.size) for it in one.ranges)) for one in oned.networks.values()]
    return [*things, *ranges]
