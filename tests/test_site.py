import shutil
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.errors import RecipeError
from imagebuilder.plan.changes import DisableService, EnableService, WriteFile
from imagebuilder.recipe.foundation import DebianBase, OwnBase
from imagebuilder.site import STARTER, Site, load_site

HASH = "$y$j9T$rVz1T3pQeQ0dYxUeqQ0Wq1$8t5RWBpKqBkWTBuyzS0wfZ1nEBqv3BPjAu9XLPGx0K6"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(STARTER / "recipes", tmp_path / "recipes")
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def text_at(site: Site, machine: str, subject: str, path: str) -> str:
    [wanted] = (one for one in site.machines() if one.name == machine)
    [text] = (
        intent.payload.decode()
        for intent in site.intents(wanted)[subject]
        if isinstance(intent, WriteFile) and intent.path == PurePosixPath(path)
    )
    return text


def faults_of(directory: Path) -> list[str]:
    with pytest.raises(RecipeError) as refused:
        load_site(directory)
    return [str(fault).replace(f"{directory}/", "").split("\n")[0] for fault in refused.value.faults]


def test_the_starter_site_has_a_machine_for_each_host_and_one_for_all_workers(directory: Path) -> None:
    site = load_site(directory)

    assert [(machine.name, machine.role) for machine in site.machines()] == [
        ("oneserver", "server"),
        ("local01", "node"),
        ("worker", "worker"),
    ]
    assert [machine.host is None for machine in site.machines()] == [False, False, True]
    assert len(site.cluster.workers) == 155


def test_each_host_of_a_range_is_a_machine(directory: Path) -> None:
    replace(directory / "recipes/cluster.yaml", "  local01:", '  "local[01-03]":')
    replace(directory / "recipes/cluster.yaml", '"10.1.1.55"', '"10.1.1.[55-57]"')

    site = load_site(directory)

    assert [machine.name for machine in site.machines() if machine.role == "node"] == ["local01", "local02", "local03"]
    assert "address 10.1.1.56/24" in text_at(site, "local02", "interfaces", "/etc/network/interfaces")


def test_the_ends_of_the_vpn_are_known_by_their_edits(directory: Path) -> None:
    site = load_site(directory)

    assert [site.vpn_purpose(machine) for machine in site.machines()] == ["server", None, "client"]
    assert [machine.public_device for machine in site.machines()] == ["eth1", None, "eth0"]


def test_an_edit_with_nothing_behind_it_has_its_defaults(directory: Path) -> None:
    put(directory / "recipes/node.yaml", "edits:\n  hostname:\n  fstab: {}\n")

    site = load_site(directory)

    assert list(site.roles["node"].edits) == ["fstab", "hostname"]
    assert site.roles["node"].interfaces is None


def test_the_options_of_an_edit_come_from_the_role(directory: Path) -> None:
    interfaces = load_site(directory).roles["server"].interfaces

    assert isinstance(interfaces, Interfaces)
    assert interfaces.devices["eth0"].bridge == "br0"


def test_a_role_requires_the_packages_of_its_edits_and_its_own(directory: Path) -> None:
    put(directory / "recipes/node.yaml", "packages: [vim]\nedits: {interfaces: {devices: {}}}\n")

    site = load_site(directory)

    assert site.roles["node"].required_packages == {"vim", "ifupdown", "iproute2"}


def test_services_of_edits_that_a_role_does_not_use_are_switched_off(directory: Path) -> None:
    put(directory / "recipes/node.yaml", "edits:\n  firewall:\n")
    site = load_site(directory)
    [node] = (machine for machine in site.machines() if machine.role == "node")

    intents = site.intents(node)

    assert EnableService(unit="nftables.service") in intents["firewall"]
    assert DisableService(unit="ypserv.service") in intents["unused edits"]
    assert DisableService(unit="nftables.service") not in intents["unused edits"]


def test_a_role_without_edits_is_a_machine_all_the_same(directory: Path) -> None:
    put(directory / "recipes/node.yaml", "edits: {}\n")

    site = load_site(directory)

    assert [machine.name for machine in site.machines()] == ["oneserver", "local01", "worker"]


def test_a_role_may_have_a_base_of_its_own(directory: Path) -> None:
    put(directory / "recipes/gpu.yaml", 'image: "/srv/gpu.qcow2"\nformat: qcow2\n')
    replace(directory / "recipes/node.yaml", "xen:\n", 'base: "gpu.yaml"\nxen:\n')

    site = load_site(directory)

    bases = {machine.name: type(site.base_of(machine)) for machine in site.machines()}
    assert bases == {"oneserver": DebianBase, "local01": OwnBase, "worker": DebianBase}
    assert "gpu" not in site.roles


def test_base_yaml_is_not_needed_where_no_role_names_it(directory: Path) -> None:
    (directory / "recipes/base.yaml").rename(directory / "recipes/debian.yaml")
    for role in ("server", "node", "worker"):
        replace(directory / f"recipes/{role}.yaml", "edits:\n", 'base: "debian.yaml"\nedits:\n')

    site = load_site(directory)

    assert list(site.bases) == ["debian.yaml"]


def test_what_an_editor_leaves_beside_the_recipes_is_not_read(directory: Path) -> None:
    (directory / "recipes/.#node.yaml").symlink_to("ada@laptop.4711")
    put(directory / "recipes/node.yaml~", "half a line")
    put(directory / "recipes/.node.yaml.swp", "\0")

    site = load_site(directory)

    assert list(site.roles) == ["node", "server", "worker"]


def test_an_overlay_of_the_site_is_filled_in_for_each_machine(directory: Path) -> None:
    replace(
        directory / "recipes/node.yaml",
        "xen:\n",
        'overlays: [motd]\nvariables: {site: "Aarhus", slots: 4, open: true, admins: [ada, zoe]}\nxen:\n',
    )
    put(
        directory / "overlays/motd/rootfs/etc/motd.j2",
        "{{ machine }} {{ host.addresses.private }} {{ site }} {{ slots }} {{ open }} {{ admins | join(' ') }}\n",
    )

    text = text_at(load_site(directory), "local01", "overlay motd", "/etc/motd")

    assert text == "local01 10.1.1.55 Aarhus 4 True ada zoe\n"


def test_an_overlay_of_the_site_takes_the_place_of_one_that_an_edit_brings(directory: Path) -> None:
    put(directory / "overlays/nis-client/rootfs/etc/yp.conf.j2", "ypserver {{ server }}\n")

    text = text_at(load_site(directory), "local01", "nis_client", "/etc/yp.conf")

    assert text == "ypserver oneserver\n"


def test_inputs_name_every_value_but_show_no_secret(directory: Path) -> None:
    replace(directory / "recipes/cluster.yaml", "uid: 2000", f'uid: 2000\n    password_hash: "{HASH}"')
    site = load_site(directory)

    inputs = site.inputs(site.machines()[1])

    assert inputs["cluster.yaml: hosts.local01.addresses.private"] == "10.1.1.55"
    assert inputs["node.yaml: xen.memory_mib"] == "1024"
    assert inputs["cluster.yaml: users.clouduser.password_hash"].startswith("sha256 ")
    assert "overlay hosts: /etc/hosts" in inputs
    assert "overlay openvpn-client: /usr/lib/imgbuild/join" not in inputs
    assert HASH not in repr((inputs, site))


def test_a_directory_without_recipes_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        load_site(tmp_path)

    [fault] = refused.value.faults
    assert fault.what == "cannot be read: No such file or directory"
    assert fault.fix == "run `imgbuild init DIR` for a site that has every file"


def test_a_role_that_cannot_be_read_is_a_role_all_the_same(directory: Path) -> None:
    put(directory / "recipes/node.yaml", "edits: [\n")

    faults = faults_of(directory)

    assert faults == [
        "recipes/node.yaml:1:9: is not valid YAML: did not find expected node content while parsing a flow node"
    ]


def test_faults_come_in_the_order_of_their_places(directory: Path) -> None:
    put(directory / "recipes/worker.yaml", "edits: 5\n")
    put(directory / "recipes/base.yaml", "suite: [\n")
    replace(directory / "recipes/cluster.yaml", "slots: 1", "slots: 0")
    replace(directory / "recipes/cluster.yaml", "uid: 2000", "uid: 200")

    places = [fault.split(": ")[0] for fault in faults_of(directory)]

    assert places == [
        "recipes/base.yaml:1:9",
        "recipes/cluster.yaml:41:10",
        "recipes/cluster.yaml:54:10",
        "recipes/worker.yaml:1:8",
    ]


RECIPES = {file.name: file.read_text(encoding="utf-8").splitlines() for file in (STARTER / "recipes").glob("*.yaml")}
SCALARS = st.one_of(
    st.sampled_from(
        ["", "null", "true", "-1", "0", "1.5", "[]", "{}", "[a, b]", "{a: b}", "0600", "9" * 40, "local01"]
    ),
    st.sampled_from(
        ["10.1.1.99", "10.1.1.[1-300]", "local[3-1]", "a[1-999999999]", "@all", "*x", "&x", "!x", "'", "{"]
    ),
    st.text(alphabet="ab01:-,.#&*!|>'\"%@`{}[]() \t\n\0\x85\u2028é€", max_size=8),
)


@st.composite
def damaged_recipes(draw: st.DrawFn) -> dict[str, str]:
    """The starter recipes after one to three accidents in one file."""
    name = draw(st.sampled_from(sorted(RECIPES)))
    lines = list(RECIPES[name])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        other = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "move", "scalar", "cut"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[other])
            case "swap":
                lines[at], lines[other] = lines[other], lines[at]
            case "move":
                lines[at] = draw(st.sampled_from(["  ", "\t", ""])) + lines[at].lstrip()
            case "scalar":
                lines[at] = f"{lines[at].partition(':')[0]}: {draw(SCALARS)}"
            case _:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
    texts = {other: "\n".join(kept) + "\n" for other, kept in RECIPES.items()}
    return {**texts, name: "\n".join(lines) + draw(st.sampled_from(["\n", ""]))}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("damaged")
    (directory / "recipes").mkdir()
    return directory


def faults_or_none(directory: Path) -> RecipeError | None:
    try:
        load_site(directory)
    except RecipeError as error:
        return error
    return None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=damaged_recipes())
def test_a_damaged_recipe_is_valid_or_has_faults_at_lines_that_exist(scratch: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (scratch / "recipes" / name).write_text(text, encoding="utf-8")

    refused = faults_or_none(scratch)

    faults = refused.faults if refused else ()
    last_lines = {scratch / "recipes" / name: len(text.splitlines() or [""]) for name, text in texts.items()}
    assert refused is None or faults
    assert [str(fault) for fault in faults if not 1 <= fault.place.line <= last_lines[fault.place.path]] == []
    assert [str(fault) for fault in faults if fault.place.column < 1 or not fault.what] == []
