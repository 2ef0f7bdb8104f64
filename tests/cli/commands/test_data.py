"""`mld data check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mld.app import app

SPEC = """\
name: small
data: {kind: manifest, path: rows.csv}
modalities:
  name: {kind: text, latent_dim: 2, max_bytes: 12, column: Name}
  size: {kind: number}
"""


@pytest.fixture
def mld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def write_rows(*extra: str, rows: int = 40) -> None:
    """Ten rows of each twenty are held out; names and sizes are all different."""
    splits = ["train"] * 8 + ["dev", "test"]
    lines = [f"name {row},{row},{'ab'[row % 2]},{splits[row % 10]}" for row in range(rows)]
    Path("rows.csv").write_text("\n".join(["Name,size,label,split", *lines, *extra]) + "\n")


def check(mld: Callable[..., Result], *words: str) -> tuple[int, dict[str, Any], str]:
    result = mld("data", "check", "--spec", "spec.yaml", "--json", *words)
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_good_data(mld: Callable[..., Result]) -> None:
    write_rows()
    code, record, errors = check(mld)
    assert (code, errors) == (0, "")
    assert record["rows"] == {"train": 32, "validation": 4, "test": 4}
    assert record["patterns"] == {"name+size": 40}
    assert record["repeated"] == 0
    assert record["classes"]["a"] == {"train": 16, "validation": 4, "test": 0}
    name = record["columns"]["name"]
    assert (name["kind"], name["distinct"], name["invalid"]) == ("text", 40, 0)
    assert name["leaked"] == {"validation": 0, "test": 0}
    assert name["quantities"]["bytes"] == {
        "minimum": 6.0,
        "median": 7.0,
        "percent_95": 7.0,
        "maximum": 7.0,
    }
    assert not Path("runs").exists()


def test_gaps_repetitions_and_leaks(mld: Callable[..., Result]) -> None:
    write_rows("name 0,0,a,test", "name 1,500,a,test", ",7,a,train", "name 2,,a,train", ",,a,dev")
    code, record, errors = check(mld)
    assert code == 0
    assert record["patterns"] == {"name+size": 42, "name": 1, "size": 1}
    assert record["repeated"] == 1
    assert record["columns"]["name"]["leaked"] == {"validation": 0, "test": 2}
    assert "1 of 6 test rows equal a training row in every cell" in errors
    assert "items of name in held-out rows are those of training rows (validation 0, test 2)" in (
        errors
    )
    assert "items of size" in errors


def test_constant_columns(mld: Callable[..., Result]) -> None:
    write_rows()
    text = Path("rows.csv").read_text().splitlines()
    same = [text[0], *(f"{line.split(',')[0]},5,a,{line.split(',')[3]}" for line in text[1:])]
    Path("rows.csv").write_text("\n".join(same) + "\n")
    code, _, errors = check(mld)
    assert code == 0
    assert "all items of size are equal" in errors
    assert "all labels are 'a'" in errors


@pytest.mark.parametrize(("on_invalid", "code"), [("error", 5), ("empty", 0), ("drop", 0)])
def test_items_that_cannot_be_used(mld: Callable[..., Result], on_invalid: str, code: int) -> None:
    write_rows("a very long name,1,a,train", "x,n/a,b,test", "a name of 14 B,3,a,dev")
    exit_code, record, errors = check(mld, "--set", f"data.on_invalid={on_invalid}")
    assert exit_code == code
    assert record["columns"]["name"]["invalid"] == 2
    assert record["columns"]["size"]["invalid"] == 1
    assert "modalities.name.max_bytes: 16 fits all, 95.3 % fit now" in errors
    assert "(train 1, validation 1, test 1)" in errors
    assert ("error: 3 items cannot be used" in errors) == (on_invalid == "error")
    assert ("warning: data.on_invalid" in errors) == (on_invalid != "error")


def test_what_makes_a_run_fail(mld: Callable[..., Result]) -> None:
    write_rows()
    lines = [line for line in Path("rows.csv").read_text().splitlines() if ",test" not in line]
    Path("rows.csv").write_text("\n".join(lines) + "\n")
    code, record, errors = check(mld)
    assert code == 5
    assert record["errors"] == [
        "dataset 'manifest': the test split has no rows, but samples are evaluated on it: add some"
    ]
    assert "error: dataset" in errors
    Path("rows.csv").write_text("size,Name\nn/a,b\n")
    assert mld("data", "check", "--spec", "spec.yaml").exit_code == 5


def test_split_keys(mld: Callable[..., Result]) -> None:
    rings = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCCC1"]
    rows = [f"{'C' * (1 + row // 4)}{rings[row % 4]},{row}" for row in range(40)]
    Path("rows.csv").write_text("\n".join(["Name,size", *rows]) + "\n")
    Path("spec.yaml").write_text(
        SPEC.replace("{kind: text, latent_dim: 2, max_bytes: 12", "{kind: molecule, latent_dim: 2")
    )
    _, record, _ = check(mld)
    assert record["columns"]["name"]["same_key"] == {"validation": 4, "test": 4}
    assert record["columns"]["name"]["quantities"]["fragments"]["maximum"] == 1
    _, record, _ = check(mld, "--set", "data.split_by=Name")
    assert record["columns"]["name"]["same_key"] == {"validation": 0, "test": 0}
    assert record["rows"] == {"train": 20, "validation": 10, "test": 10}


def test_another_table_than_that_of_the_spec(mld: Callable[..., Result]) -> None:
    write_rows()
    Path("rows.csv").rename("other.tsv")
    assert check(mld, "other.tsv")[1]["rows"]["train"] == 32
    spec = SPEC.replace("{kind: manifest, path: rows.csv}", "{kind: examples, train: 50}")
    Path("spec.yaml").write_text(spec)
    assert check(mld, "other.tsv")[1]["rows"]["train"] == 32


def test_readable_output(mld: Callable[..., Result]) -> None:
    write_rows("name 0,0,a,test")
    lines = mld("data", "check", "--spec", "spec.yaml").stdout.splitlines()
    assert lines[0] == "rows: train 32, validation 4, test 5; 1 equal to an earlier one"
    assert "  bytes: 6 to 7, median 7, 95 % at most 7" in lines
    assert "  equal to a training item: validation 0, test 1" in lines
    assert "         41  name+size" in lines


def test_a_table_alone(mld: Callable[..., Result]) -> None:
    rows = [f"{row},{row / 2},{'xy'[row % 2]},k,a{row}.txt,,word {row}" for row in range(30)]
    rows[7] = rows[7].replace("3.5", "n/a")
    table = "\n".join(["id,size,kind,unit,file,none,text", *rows, rows[0].replace("0,", "99,", 1)])
    Path("rows.csv").write_text(table.replace(",", ";") + "\n")
    for row in range(30):
        Path(f"a{row}.txt").write_text("")
    record = json.loads(mld("data", "check", "rows.csv", "--json").stdout)
    assert (record["rows"], record["repeated"], record["separator"]) == (31, 1, ";")
    looks = {name: column["looks_like"] for name, column in record["columns"].items()}
    assert looks == {
        "id": "numbers",
        "size": "mostly numbers",
        "kind": "categories",
        "unit": "constant",
        "file": "files",
        "none": "empty",
        "text": "text",
    }
    assert record["columns"]["size"]["example"] == "n/a"
    result = mld("data", "check", "rows.csv")
    assert result.stdout.startswith("31 rows, 1 of them equal to an earlier one\n")


def test_wrong_command_lines(mld: Callable[..., Result]) -> None:
    assert mld("data", "check").exit_code == 2
    assert mld("data", "check", "rows.csv", "--set", "seed=1").exit_code == 2
    assert mld("data", "check", "rows.csv").exit_code == 5
    assert mld("data", "check", "--spec", "absent.yaml").exit_code == 3
