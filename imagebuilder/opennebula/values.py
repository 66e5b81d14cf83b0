"""What the value of an attribute must look like."""

import re
from ipaddress import AddressValueError, IPv4Address

_BOOTS = "(disk[0-9]+|nic[0-9]+|hd|fd|cdrom|network)"  # the words are those of releases before 4.14
_PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "integer": (re.compile(r"[0-9]+"), "a whole number"),
    "decimal": (re.compile(r"[0-9]+(\.[0-9]+)?"), "a number"),
    "mac": (re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}"), "a MAC address, as 00:16:3e:01:02:03"),
    "path": (re.compile(r"(/|[a-z0-9+]+://).+", re.DOTALL), "an absolute path"),
    "device": (re.compile(r"/.*|(hd|sd|vd|xvd)[a-z]+[0-9]*"), "a device, as vda"),
    "ami": (re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})"), "an AMI, as ami-0123456789abcdef0"),
    "boot": (re.compile(rf"{_BOOTS}(,{_BOOTS})*"), "devices to boot from, as disk0,nic0"),
}
_MANY_AT_ONCE = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_POSITIVE = {"CPU", "MEMORY", "VCPU", "SIZE"}
_LAST_PORT = 65535


def expected(takes: str, name: str, text: str) -> str | None:
    """What the value of the attribute `name` should be, in words; None if it is that.

    `takes` is the last column of a row (see `attributes`). What refers to a variable is known to OpenNebula only.
    """
    if "$" in text or takes in ("text", "vector"):
        return None
    if name in _POSITIVE and re.fullmatch(r"0*(\.0*)?", text):
        return "more than 0"
    match takes:
        case "ip":
            return None if _is_address(text) else "an IPv4 address"
        case "ports":
            return None if _are_ports(text) else f"ports, as 22-25 or 22,80, at the most {_LAST_PORT}"
        case _ if takes in _PATTERNS:
            pattern, words = _PATTERNS[takes]
            return None if pattern.fullmatch(text) else words
        case _:
            choices = takes.split("|")
            return None if text.lower() in choices else f"one of {', '.join(choices)}"


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _are_ports(text: str) -> bool:
    if not _MANY_AT_ONCE.fullmatch(text):
        return False
    ranges = [[int(number) for number in part.split("-")] for part in text.split(",")]
    return all(bounds == sorted(bounds) and bounds[0] > 0 and bounds[-1] <= _LAST_PORT for bounds in ranges)
