import pytest

from tests.machines import shipped_plan
from tests.update_golden import GOLDEN, MACHINE_OF_ROLE, golden_tree, read_tree


@pytest.mark.parametrize(("role", "machine"), MACHINE_OF_ROLE.items())
def test_a_role_writes_what_its_golden_tree_has(role: str, machine: str) -> None:
    plan = shipped_plan(machine)

    # If this is meant to be so: `python -m tests.update_golden`, and read the difference.
    assert golden_tree(plan) == read_tree(GOLDEN / role)


def test_no_golden_tree_shows_a_secret() -> None:
    texts = [text for role in MACHINE_OF_ROLE for text in read_tree(GOLDEN / role).values()]

    assert not [text for text in texts if "the key" in text or "PRIVATE" in text]
