from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from imagebuilder.plan.changes import MakeLink, RemovePath
from imagebuilder.plan.units import disabling_changes, enabling_changes
from tests.machines import debian

OWN = "/etc/systemd/system"
SHIPPED = "/usr/lib/systemd/system"


def links_for(unit: str, units: Mapping[str, str]) -> dict[str, str]:
    """Each link that enables `unit`, with its target, in a system with these unit files."""
    changes = enabling_changes(unit, lambda path: units.get(str(path)))
    return {str(link.path): link.target for link in changes if isinstance(link, MakeLink)}


def removed_for(unit: str, *, links: Mapping[str, str], files: Mapping[str, str] | None = None) -> set[str]:
    """Each path that goes when `unit` is disabled, in a base that has these links and files beside Debian's."""
    changes = disabling_changes(unit, debian(links=links, files=files))
    return {str(change.path) for change in changes if isinstance(change, RemovePath)}


# Enabling.


def test_a_wanted_unit_gets_a_link_in_each_unit_that_wants_it() -> None:
    text = "[Install]\nWantedBy=multi-user.target network-online.target\nWantedBy=sysinit.target\n"

    links = links_for("own.service", {f"{SHIPPED}/own.service": text})

    assert links == {
        f"{OWN}/multi-user.target.wants/own.service": f"{SHIPPED}/own.service",
        f"{OWN}/network-online.target.wants/own.service": f"{SHIPPED}/own.service",
        f"{OWN}/sysinit.target.wants/own.service": f"{SHIPPED}/own.service",
    }


def test_a_required_unit_and_an_alias_get_their_links() -> None:
    text = "[Install]\nRequiredBy = cluster.target\nAlias=other.service\n"

    links = links_for("own.service", {f"{OWN}/own.service": text})

    assert links == {
        f"{OWN}/cluster.target.requires/own.service": f"{OWN}/own.service",
        f"{OWN}/other.service": f"{OWN}/own.service",
    }


def test_an_instance_is_a_link_to_its_template() -> None:
    text = "[Install]\nWantedBy=multi-user.target\n"

    links = links_for("openvpn-server@cluster.service", {f"{SHIPPED}/openvpn-server@.service": text})

    assert links == {
        f"{OWN}/multi-user.target.wants/openvpn-server@cluster.service": f"{SHIPPED}/openvpn-server@.service"
    }


def test_the_administrator_s_unit_comes_before_the_distribution_s() -> None:
    units = {
        f"{OWN}/own.service": "[Install]\nWantedBy=multi-user.target\n",
        f"{SHIPPED}/own.service": "[Install]\nWantedBy=basic.target\n",
    }

    links = links_for("own.service", units)

    assert links == {f"{OWN}/multi-user.target.wants/own.service": f"{OWN}/own.service"}


def test_a_unit_brings_along_those_that_its_install_section_names() -> None:
    units = {
        f"{SHIPPED}/own.service": "[Install]\nWantedBy=multi-user.target\nAlso=own.socket absent.path\n",
        f"{SHIPPED}/own.socket": "[Install]\nWantedBy=sockets.target\n",
    }

    links = links_for("own.service", units)

    assert links == {
        f"{OWN}/multi-user.target.wants/own.service": f"{SHIPPED}/own.service",
        f"{OWN}/sockets.target.wants/own.socket": f"{SHIPPED}/own.socket",
    }


def test_units_that_bring_each_other_along_are_enabled_once() -> None:
    units = {
        f"{SHIPPED}/own.service": "[Install]\nWantedBy=multi-user.target\nAlso=own.socket\n",
        f"{SHIPPED}/own.socket": "[Install]\nWantedBy=sockets.target\nAlso=own.service\n",
    }

    links = links_for("own.socket", units)

    assert sorted(links) == [
        f"{OWN}/multi-user.target.wants/own.service",
        f"{OWN}/sockets.target.wants/own.socket",
    ]


def test_comments_and_other_sections_enable_nothing() -> None:
    install = "[Install]\n# WantedBy=b.target\n; WantedBy=c.target\nWantedBy=d.target\n"
    text = f"[Unit]\nWantedBy=a.target\n{install}[Service]\nAlias=e\n"

    links = links_for("own.service", {f"{SHIPPED}/own.service": text})

    assert list(links) == [f"{OWN}/d.target.wants/own.service"]


def test_a_unit_that_is_not_there_cannot_be_enabled() -> None:
    with pytest.raises(LookupError, match=r"there is no systemd unit 'own\.service' in the base or the overlays"):
        links_for("own.service", {f"{SHIPPED}/other.service": "[Install]\nWantedBy=multi-user.target\n"})


def test_a_unit_without_an_install_section_cannot_be_enabled() -> None:
    with pytest.raises(LookupError, match=r"'own\.service' has no \[Install\] section"):
        links_for("own.service", {f"{SHIPPED}/own.service": "[Service]\nExecStart=/bin/true\n"})


# Disabling.


def test_a_disabled_unit_loses_its_links_and_aliases_and_no_other() -> None:
    links = {
        f"{OWN}/multi-user.target.wants/own.service": f"{SHIPPED}/own.service",
        f"{OWN}/cluster.target.requires/own.service": f"{SHIPPED}/own.service",
        f"{OWN}/alias.service": f"{SHIPPED}/own.service",
        f"{OWN}/multi-user.target.wants/own.service.socket": f"{SHIPPED}/own.service.socket",
        f"{OWN}/own.service": "/srv/own.service",
        "/usr/lib/systemd/system/multi-user.target.wants/own.service": "../own.service",
    }

    removed = removed_for("own.service", links=links)

    assert removed == {
        f"{OWN}/multi-user.target.wants/own.service",
        f"{OWN}/cluster.target.requires/own.service",
        f"{OWN}/alias.service",
    }


def test_a_disabled_unit_takes_along_those_that_come_with_it() -> None:
    removed = removed_for("rpcbind.service", links={})

    assert removed == {
        f"{OWN}/multi-user.target.wants/rpcbind.service",
        f"{OWN}/sockets.target.wants/rpcbind.socket",
    }


def test_a_service_that_only_an_init_script_makes_is_masked() -> None:
    changes = list(disabling_changes("gridengine-exec.service", debian()))

    assert changes == [MakeLink(path=PurePosixPath(f"{OWN}/gridengine-exec.service"), target="/dev/null")]


def test_a_service_with_an_init_script_and_a_unit_is_not_masked() -> None:
    changes = list(disabling_changes("openvpn.service", debian()))

    assert changes == []


def test_disabling_a_unit_that_is_not_there_changes_nothing() -> None:
    changes = list(disabling_changes("own.service", debian()))

    assert changes == []
