"""The golden trees in `golden/ROLE`: all that the plan of each role's machine writes, to be read and reviewed; and in
`golden/opennebula/RELEASE`, the files for an OpenNebula of that release.

`python -m tests.update_golden` writes them anew. A tree has each file under `rootfs`, at its place in the image, and an
`index` with the rest: kind, mode, owner, link target. A secret shows as its size.
"""

import shutil
from pathlib import Path

from imagebuilder.opennebula.release import RELEASES
from imagebuilder.plan.changes import Change, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.plan import Plan
from tests.machines import TESTS, shipped_plan
from tests.one_files import files_of

GOLDEN = TESTS / "golden"
MACHINE_OF_ROLE = {"server": "oneserver", "node": "local01", "worker": "worker"}


def golden_tree(plan: Plan) -> dict[str, str]:
    """The golden tree of `plan`: the text of each of its files, by the file's path in the tree."""
    tree = {"index": "".join(f"{_index_line(change)}\n" for change in plan.changes)}
    for change in plan.changes:
        if isinstance(change, WriteFile):
            secret = f"(secret, {len(change.payload)} bytes)\n"
            tree[f"rootfs{change.path}"] = secret if change.is_secret else change.payload.decode()
    return tree


def _index_line(change: Change) -> str:
    match change:
        case WriteFile():
            return f"{change.path}: file {change.mode:04o} {change.owner}:{change.group}"
        case MakeDirectory():
            return f"{change.path}: directory {change.mode:04o} {change.owner}:{change.group}"
        case MakeLink():
            return f"{change.path}: link to {change.target}"
        case RemovePath():
            return f"{change.path}: removed"


def read_tree(directory: Path) -> dict[str, str]:
    """The golden tree in `directory`."""
    files = (file for file in directory.rglob("*") if file.is_file())
    return {str(file.relative_to(directory)): file.read_text(encoding="utf-8") for file in files}


def update() -> None:
    """Write the trees of all roles anew."""
    for role, machine in MACHINE_OF_ROLE.items():
        shutil.rmtree(GOLDEN / role, ignore_errors=True)
        for path, text in golden_tree(shipped_plan(machine)).items():
            file = GOLDEN / role / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for generation in RELEASES:
        directory = GOLDEN / "opennebula" / generation
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, text in files_of(generation).items():
            (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    update()
