from collections.abc import Mapping
from pathlib import Path

import pytest

from imagebuilder.errors import Fault
from imagebuilder.plan.template import render_template
from imagebuilder.recipe.cluster import Host, Vpn

FILE = Path("overlays/motd/rootfs/etc/motd.j2")
VARIABLES: Mapping[str, object] = {
    "vpn": Vpn(pool="10.1.1.100-10.1.1.254"),
    "machine": "local01",
    "host": None,
    "rows": [("10.1.1.99", "oneserver"), ("10.1.1.55", "local01")],
    "ports": {"ssh": 22},
    "first": Host(name="oneserver", role="server", addresses={}),
}


def faults_in(text: str) -> list[Fault]:
    content, faults = render_template(text.encode(), FILE, VARIABLES)
    assert content == b""
    return faults


def said_of(text: str) -> list[str]:
    return [f"{fault.place.line}:{fault.place.column}: {fault.what}" for fault in faults_in(text)]


def test_a_template_looks_like_the_file_it_makes() -> None:
    text = (
        "port {{ vpn.port }}\n{% for address, name in rows %}\n{{ address }}\t{{ name }}\n{% endfor %}\n"
        "{% if host %}\n  never\n{% endif %}\n# <end>"
    )

    content, faults = render_template(text.encode(), FILE, VARIABLES)

    assert content == b"port 1194\n10.1.1.99\toneserver\n10.1.1.55\tlocal01\n# <end>"
    assert faults == []


@pytest.mark.parametrize(
    "text", ["{{ zone | default('UTC') }}", "{% if zone is defined %}{{ zone }}{% else %}UTC{% endif %}"]
)
def test_a_template_may_ask_whether_a_variable_has_a_value(text: str) -> None:
    content, faults = render_template(text.encode(), FILE, VARIABLES)

    assert content == b"UTC"
    assert faults == []


def test_a_missing_variable_is_a_fault_where_it_is_used_and_tells_what_there_is() -> None:
    [fault] = faults_in("remote {{ remote }}\n")

    assert str(fault) == (
        "overlays/motd/rootfs/etc/motd.j2:1:11: the variable 'remote' has no value.\n"
        "  fix: use one of first, host, machine, ports, rows, vpn; for an overlay of your own,"
        " set it under `variables:` of the role"
    )


def test_all_missing_variables_come_at_once() -> None:
    said = said_of(
        "{{ a }} b {{ b }}\n{% for c in cs %}{{ c }}{{ vpn.pool }}{% endfor %}\n{{ machin }}{{ z | default(1) }}"
    )

    assert said == [
        "1:4: the variable 'a' has no value.",
        "1:14: the variable 'b' has no value.",
        "2:13: the variable 'cs' has no value.",
        "3:4: the variable 'machin' has no value. Did you mean 'machine'?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ vpn.prot }}", "1:8: there is no 'prot' in this Vpn. Did you mean 'port'?"),
        ("port {{ vpn.pool }} {{ vpn.prot }}", "1:28: there is no 'prot' in this Vpn. Did you mean 'port'?"),
        ("{{ ports.shh }}", "1:10: there is no 'shh' in this dict. Did you mean 'ssh'?"),
        ("{{ ports['shh'] }}", "1:11: there is no 'shh' in this dict. Did you mean 'ssh'?"),
        ("{{ first.nam }}", "1:10: there is no 'nam' in this Host. Did you mean 'name'?"),
        ("{{ host.name }}", "1:9: there is no 'name' here, as what stands before it is empty"),
        ("{{\n  vpn\n  .prot }}", "3:4: there is no 'prot' in this Vpn. Did you mean 'port'?"),
    ],
)
def test_a_missing_attribute_is_a_fault_where_it_is_used(text: str, said: str) -> None:
    found = said_of(text)

    assert found == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ machine | uper }}", "1:14: is no valid template: No filter named 'uper'."),
        ("a\n {% endfor %}", "2:5: is no valid template: Encountered unknown tag 'endfor'."),
        ("{{ rows", "1:1: is no valid template: unexpected end of template"),
        ("{% if host %}\nyes\n", "2:1: is no valid template: Unexpected end of template."),
        ("{{ rows vpn }}", "1:9: is no valid template: expected token 'end of print statement', got 'vpn'"),
        ("a {# b", "1:3: is no valid template: Missing end of comment tag"),
        ("a\n{% if machine is foo %}{% endif %}", "2:18: cannot be filled in: No test named 'foo' found."),
        ("a\nb {{ 1 / 0 }}", "2:3: cannot be filled in: division by zero"),
        ("{{ [].pop() }}", "1:1: cannot be filled in: pop from empty list"),
        ("{{ vpn() }}", "1:1: cannot be filled in: 'Vpn' object is not callable"),
        ("{{ 'a' + 1 }}", "1:1: cannot be filled in: can only concatenate str"),
        ("{% include 'x' %}", "1:1: cannot be filled in: no loader for this environment"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "1:1: cannot be filled in: maximum recursion depth"),
        ("{{ range(3, missing) }}", "1:13: the variable 'missing' has no value."),
    ],
)
def test_whatever_goes_wrong_in_a_template_is_a_fault_with_a_place(text: str, said: str) -> None:
    [found] = said_of(text)

    assert found.startswith(said)


def test_a_template_in_another_encoding_is_a_fault_at_the_first_such_character() -> None:
    content, [fault] = render_template("Grüße\naus Malmö\n".encode("cp1252"), FILE, VARIABLES)

    assert content == b""
    assert str(fault) == "overlays/motd/rootfs/etc/motd.j2:1:3: is not UTF-8 text\n  fix: save it as UTF-8"
