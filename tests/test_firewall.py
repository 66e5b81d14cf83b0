import pytest

from imagebuilder.edits.firewall import Firewall, OpenPorts
from tests.machines import machine_of, shipped_site


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("oneserver", OpenPorts(udp=(range(1194, 1195),))),
        ("local01", OpenPorts()),
        ("worker", OpenPorts(tcp=(range(22, 26),))),
    ],
)
def test_a_machine_has_the_ports_open_that_the_cluster_description_lists(name: str, expected: OpenPorts) -> None:
    machine = machine_of(shipped_site(), name)

    assert Firewall().open_ports(machine) == expected
