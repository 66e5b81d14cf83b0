import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from imagebuilder.site import STARTER
from tests.command import Run


@pytest.fixture
def site(run: Run) -> Path:
    run("-q", "init", "demo")
    return Path("demo")


def break_it(site: Path) -> None:
    recipe = site / "recipes/cluster.yaml"
    text = recipe.read_text(encoding="utf-8").replace("  local01:", "  local_01:").replace("slots: 1", "slots: 0")
    recipe.write_text(text, encoding="utf-8")


def test_init_makes_a_site_that_is_valid_as_it_is(run: Run) -> None:
    code, out, err = run("init", "demo")

    assert (code, out) == (0, "")
    assert err == "imgbuild: made a site in demo; next: imgbuild -C demo validate\n"
    assert sorted(str(path) for path in Path("demo").rglob("*") if path.is_file()) == [
        "demo/.gitignore",
        "demo/overlays/README",
        "demo/recipes/base.yaml",
        "demo/recipes/cluster.yaml",
        "demo/recipes/node.yaml",
        "demo/recipes/server.yaml",
        "demo/recipes/worker.yaml",
    ]
    assert run("-C", "demo", "validate") == (
        0,
        "valid: 3 images (oneserver, local01, worker), 155 workers\n",
        "",
    )


def test_init_keeps_the_comments_of_the_starter_recipes(site: Path) -> None:
    made = (site / "recipes/cluster.yaml").read_text(encoding="utf-8")

    assert made == (STARTER / "recipes/cluster.yaml").read_text(encoding="utf-8")
    assert made.startswith("# ")


def test_init_keeps_secrets_out_of_version_control_and_an_ignore_file_as_it_is(run: Run, site: Path) -> None:
    other = Path("other")
    other.mkdir()
    (other / ".gitignore").write_text("mine\n", encoding="utf-8")

    run("init", "other")

    assert (site / ".gitignore").read_text(encoding="utf-8").splitlines() == ["/.imgbuild/", "/secrets/"]
    assert (other / ".gitignore").read_text(encoding="utf-8") == "mine\n"


def test_init_never_writes_over_recipes(run: Run, site: Path) -> None:
    break_it(site)
    before = (site / "recipes/cluster.yaml").read_bytes()

    code, out, err = run("init", "demo")

    assert (code, out) == (2, "")
    assert err == "imgbuild: demo/recipes: exists already; nothing was touched\n  fix: choose another directory\n"
    assert (site / "recipes/cluster.yaml").read_bytes() == before


def test_a_dry_run_of_init_makes_nothing(run: Run) -> None:
    code, _, _ = run("init", "demo", "--dry-run")

    assert code == 0
    assert not Path("demo").exists()


def test_init_where_a_file_is_in_the_way_is_wrong_usage(run: Run) -> None:
    Path("demo").write_text("a file\n", encoding="utf-8")

    code, out, err = run("init", "demo")

    assert (code, out) == (2, "")
    assert err.startswith("imgbuild: demo")
    assert Path("demo").read_text(encoding="utf-8") == "a file\n"


def test_validate_names_files_by_the_path_given(run: Run, site: Path) -> None:
    break_it(site)

    code, out, err = run("-C", str(site), "validate")

    assert (code, out) == (3, "")
    assert err == (
        "imgbuild: demo/recipes/cluster.yaml:20:3: 'local_01' is no host name\n"
        "  fix: use a-z, 0-9 and '-' inside, 63 characters at the most, no dot\n"
        "demo/recipes/cluster.yaml:54:10: 'slots': expected 1 or more\n"
    )


def test_validate_as_json_lists_the_images(run: Run, site: Path) -> None:
    code, out, err = run("-C", str(site), "validate", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {"valid": True, "faults": [], "images": ["oneserver", "local01", "worker"]}


def test_validate_as_json_lists_every_fault_with_its_place(run: Run, site: Path) -> None:
    break_it(site)

    code, out, err = run("-C", str(site), "validate", "--json")

    assert (code, err) == (3, "")
    assert json.loads(out) == {
        "valid": False,
        "faults": [
            {
                "path": "demo/recipes/cluster.yaml",
                "line": 20,
                "column": 3,
                "what": "'local_01' is no host name",
                "fix": "use a-z, 0-9 and '-' inside, 63 characters at the most, no dot",
            },
            {
                "path": "demo/recipes/cluster.yaml",
                "line": 54,
                "column": 10,
                "what": "'slots': expected 1 or more",
                "fix": None,
            },
        ],
    }


def test_a_quiet_validate_says_nothing_of_a_valid_site_and_all_of_another(run: Run, site: Path) -> None:
    quiet = run("-q", "-C", str(site), "validate")
    break_it(site)

    code, _, err = run("-q", "-C", str(site), "validate")

    assert quiet == (0, "", "")
    assert code == 3
    assert len(err.splitlines()) == 3


def test_validate_without_a_site_says_how_to_make_one(run: Run) -> None:
    code, _, err = run("-C", "nowhere", "validate")

    assert code == 3
    assert err == (
        "imgbuild: nowhere/recipes/cluster.yaml:1:1: cannot be read: No such file or directory\n"
        "  fix: run `imgbuild init DIR` for a site that has every file\n"
    )


def test_the_command_itself_refuses_a_recipe_without_a_traceback(site: Path) -> None:
    break_it(site)
    command = [sys.executable, "-c", "from imagebuilder.cli import main; main()", "-C", str(site), "validate"]

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(site)},
    )

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("imgbuild: demo/recipes/cluster.yaml:20:3: 'local_01' is no host name\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("document", ["cluster", "role", "base", "overlay"])
def test_each_schema_is_one_object_that_allows_no_unknown_key(run: Run, document: str) -> None:
    code, out, err = run("schema", document)

    schema = json.loads(out)
    parts = [schema, *schema.get("$defs", {}).values()]
    assert (code, err) == (0, "")
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [part for part in parts if "properties" in part and part["additionalProperties"] is not False] == []


def test_a_schema_explains_each_key_in_an_editor(run: Run) -> None:
    schemas = [json.loads(run("schema", document)[1]) for document in ("cluster", "role", "base", "overlay")]

    parts = [part for schema in schemas for part in (schema, *schema.get("$defs", {}).values())]
    keys = [(part["title"], key, value) for part in parts for key, value in part.get("properties", {}).items()]
    # What is a part of its own is explained there.
    unexplained = [f"{title}.{key}" for title, key, value in keys if not value.keys() & {"description", "$ref"}]
    assert {part["title"] for part in parts if "properties" in part and "description" not in part} == {"Edits"}
    assert unexplained == []


def test_the_schema_of_the_cluster_is_the_one_that_is_meant(run: Run) -> None:
    schema = json.loads(run("schema")[1])

    assert schema["required"] == ["name", "networks", "server", "hosts", "workers", "vpn", "nis", "exports"]
    assert schema["properties"]["networks"]["propertyNames"]["enum"] == ["private", "public"]
    assert schema["$defs"]["User"]["properties"]["uid"]["minimum"] == 1000


def test_the_schema_allows_an_edit_with_nothing_behind_it(run: Run) -> None:
    edits = json.loads(run("schema", "role")[1])["$defs"]["Edits"]["properties"]

    assert edits["hostname"]["anyOf"] == [{"$ref": "#/$defs/Hostname"}, {"type": "null"}]
    assert edits["interfaces"]["description"].startswith("Writes /etc/network/interfaces")


@pytest.mark.parametrize(
    ("document", "file"),
    [("cluster", "cluster.yaml"), ("role", "server.yaml"), ("role", "node.yaml"), ("role", "worker.yaml")],
)
def test_the_schemas_know_every_key_of_the_starter_recipes(run: Run, document: str, file: str) -> None:
    recipe = yaml.load((STARTER / "recipes" / file).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)

    schema = json.loads(run("schema", document)[1])

    assert recipe.keys() <= schema["properties"].keys()
    assert recipe.get("edits", {}).keys() <= schema["$defs"].get("Edits", {}).get("properties", {}).keys()


def test_a_schema_of_something_else_is_wrong_usage(run: Run) -> None:
    code, out, err = run("schema", "node")

    assert (code, out) == (2, "")
    assert "'node' is not one of 'cluster', 'role', 'base', 'overlay'" in err
