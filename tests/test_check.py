from ipaddress import IPv4Address

import pytest

from imagebuilder.plan.check import Matches, Prints, active_services, has_rows, unfailed_services


def test_what_is_printed_may_have_blanks_at_its_ends() -> None:
    expected = Prints(text="local01")

    assert expected.trouble(0, " local01\n") is None


def test_other_text_is_trouble() -> None:
    trouble = Prints(text="local01").trouble(0, "local01.example.org\n")

    assert trouble == "not 'local01'"


@pytest.mark.parametrize("expected", [Prints(text="local01"), Matches(patterns=("local01",)), Matches(patterns=())])
def test_a_command_that_fails_is_trouble_whatever_it_prints(expected: Prints | Matches) -> None:
    trouble = expected.trouble(2, "local01\n")

    assert trouble == "exit status 2"


def test_a_pattern_can_hold_a_line_at_both_ends() -> None:
    expected = Matches(patterns=("^tap0$", "^eth0$"))

    assert expected.trouble(0, "lo\neth0\ntap0\n") is None


def test_the_first_pattern_that_nothing_matches_is_named() -> None:
    trouble = Matches(patterns=("^lo$", "^eth0$", "^tap0$")).trouble(0, "lo\neth0.1\n")

    assert trouble == "nothing matches ^eth0$"


def test_rows_are_found_in_any_order_and_with_any_blanks() -> None:
    expected = has_rows([(IPv4Address("10.1.1.99"), "oneserver"), (IPv4Address("10.1.1.55"), "local01")])

    assert expected.trouble(0, "10.1.1.55\tlocal01\n10.1.1.99       oneserver \n") is None


@pytest.mark.parametrize(
    "line", ["10.1.1.99 oneserver one", "x 10.1.1.99 oneserver", "10.1.1.99oneserver", "10-1-1-99 oneserver"]
)
def test_a_row_is_a_whole_line_of_just_its_words(line: str) -> None:
    expected = has_rows([(IPv4Address("10.1.1.99"), "oneserver")])

    assert expected.trouble(0, f"{line}\n") is not None


def test_services_are_all_to_be_active() -> None:
    check = active_services(["a.service", "b.path"], needs="cluster")

    assert check.command == ("systemctl", "is-active", "a.service", "b.path")
    assert check.needs == "cluster"
    assert check.expects.trouble(0, "active\nactive\n") is None
    assert check.expects.trouble(0, "active\nactivating\n") is not None


def test_services_that_end_are_to_be_enabled_and_not_failed() -> None:
    check = unfailed_services(["a.service", "b.service"])
    well, failed = "Result=success\nUnitFileState=enabled\n", "Result=exit-code\nUnitFileState=enabled\n"

    assert check.expects.trouble(0, f"{well}\n{well}") is None
    assert check.expects.trouble(0, f"{well}\n{failed}") is not None
    assert check.expects.trouble(0, well) is not None
