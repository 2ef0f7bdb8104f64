"""Runs that were edited by hand, damaged, or made by a stranger: an exit code and a name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from mld.storage.digests import digest, file_digest
from mld.storage.run_dir import RunDir

NETWORKS = ("autoencoders/left.safetensors", "diffusion/ema.safetensors")


@pytest.fixture
def run_dir(finished_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the finished run."""
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))


def reseal(run_dir: RunDir, path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file with a valid checksum, and enter its new digest in all markers."""
    value.pop("sha256", None)
    path.write_text(json.dumps({**value, "sha256": digest(value)}))
    name = path.relative_to(run_dir.path).as_posix()
    for marker in (run_dir.path / "stages").iterdir():
        content = json.loads(marker.read_text())
        if name in content["files"] and marker != path:
            content["files"][name] = file_digest(path)
            reseal(run_dir, marker, content)


def fails(result: Result, *words: str) -> None:
    """The command ends with exit code 6 and one message with these words."""
    assert result.exit_code == 6, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def test_a_spec_edited_by_hand(run_dir: RunDir, mld: Callable[..., Result]) -> None:
    text = run_dir.spec.read_text()
    run_dir.spec.write_text(text.replace("latent_dim: 4", "latent_dim: 3", 1))
    fails(mld("sample", run_dir.path), "spec.yaml is not as mld wrote it", "`mld run SPEC`")
    fails(mld("report", run_dir.path), "spec.yaml is not as mld wrote it")
    run_dir.spec.write_text(text)
    assert mld("sample", run_dir.path).exit_code == 0


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("provenance.json", "sample"),
        ("provenance.json", "report"),
        ("metrics.json", "report"),
        ("modalities/left.json", "sample"),
        ("samples/left/index.json", "report"),
        ("stages/data.json", "sample"),
        ("stages/evaluate.json", "report"),
    ],
)
@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"plugins": {}}', "x", ""])
def test_json_edited_by_hand(
    run_dir: RunDir, mld: Callable[..., Result], name: str, command: str, content: str
) -> None:
    (run_dir.path / name).write_text(content)
    fails(mld(command, run_dir.path), name)


def test_an_event_edited_by_hand(run_dir: RunDir, mld: Callable[..., Result]) -> None:
    content = run_dir.events.read_bytes()
    half = content[: len(content) // 2]
    run_dir.events.write_bytes(half + b"\n")  # as a killed process may leave it
    assert mld("report", run_dir.path).exit_code == 0
    position = content.index(b'"step"') + 9
    for changed in (b"9", b"\x00", b"}", b'"'):
        edited = content[:position] + changed + content[position + 1 :]
        if edited != content:
            run_dir.events.write_bytes(edited)
            fails(mld("report", run_dir.path), "events.jsonl is corrupt: line", "delete it")


@pytest.mark.parametrize(
    ("path", "target", "commands"),
    [
        ("spec.yaml", "outside", ["sample", "report"]),
        ("events.jsonl", "outside", ["sample", "report"]),
        (".lock", "outside", ["sample", "report"]),
        (".lock.json", "outside", ["sample", "report"]),
        ("report.html", "outside", ["sample", "report"]),
        ("samples", "folder", ["sample", "report"]),
        ("checkpoints", "folder", ["sample", "report"]),
        ("samples/left/secret.txt", "/etc/passwd", ["sample", "report"]),
        ("loop", "loop", []),
    ],
)
def test_links_that_lead_out_of_a_run(
    run_dir: RunDir,
    mld: Callable[..., Result],
    tmp_path: Path,
    path: str,
    target: str,
    commands: list[str],
) -> None:
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "diffuse.safetensors").write_text("mine too")
    link = run_dir.path / path
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / target if target != "loop" else link)
    for command in commands:
        fails(mld(command, run_dir.path), f"{link} leads out of the run", "do not use this run")
    if not commands:  # a link that leads nowhere is harmless
        assert mld("report", run_dir.path).exit_code == 0
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "folder" / "diffuse.safetensors").read_text() == "mine too"


def test_a_pipe_in_a_run(run_dir: RunDir, mld: Callable[..., Result]) -> None:
    os.mkfifo(run_dir.path / "information.json")
    fails(mld("report", run_dir.path), "information.json is neither a file nor a folder")


def test_names_that_lead_out_of_a_run(
    run_dir: RunDir, mld: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    index = run_dir.samples("left") / "index.json"
    content = run_dir.read_json(index)
    for name in ("../../../secret.txt", str(tmp_path / "secret.txt")):
        content["rows"][0]["cells"]["third"]["file"] = name
        reseal(run_dir, index, content)
        fails(mld("report", run_dir.path), "secret.txt leads out of the run")
    marker = run_dir.path / "stages" / "data.json"
    reseal(run_dir, marker, json.loads(marker.read_text()) | {"files": {"../secret.txt": "0"}})
    fails(mld("sample", run_dir.path), "secret.txt leads out of the run")


def test_files_with_valid_checksums_of_other_content(
    run_dir: RunDir, mld: Callable[..., Result]
) -> None:
    for name, value, command in [
        ("provenance.json", {}, "sample"),
        ("provenance.json", {"plugins": [1]}, "sample"),
        ("metrics.json", {}, "report"),
        ("metrics.json", {"modalities": 3}, "report"),
    ]:
        path = run_dir.path / name
        before = path.read_text()
        reseal(run_dir, path, value)
        fails(mld(command, run_dir.path), "does not hold what mld writes there")
        reseal(run_dir, path, json.loads(before))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_another_network(run_dir: RunDir, mld: Callable[..., Result], name: str) -> None:
    import torch

    path = run_dir.path / name
    tensors = run_dir.read_tensors(path)
    for changed in ({}, {next(iter(tensors)): torch.zeros(1, 1)}):
        run_dir.write_tensors(path, changed)
        for marker in (run_dir.path / "stages").iterdir():
            content = json.loads(marker.read_text())
            if name in content["files"]:
                content["files"][name] = file_digest(path)
                reseal(run_dir, marker, content)
        fails(mld("sample", run_dir.path), f"{name} does not hold what mld writes there")


def test_html_in_names_and_labels_is_escaped(run_dir: RunDir, mld: Callable[..., Result]) -> None:
    tag = "<script>alert(1)</script>"
    index = run_dir.samples("left") / "index.json"
    content = run_dir.read_json(index)
    for row in content["rows"]:
        row["id"] = tag
        for cell in row["cells"].values():
            cell["cell"] = tag
    reseal(run_dir, index, content)
    metrics = run_dir.read_json(run_dir.metrics)
    metrics["warnings"] = [tag]
    reseal(run_dir, run_dir.metrics, metrics)
    assert mld("report", run_dir.path).exit_code == 0
    page = run_dir.report.read_text()
    assert tag not in page
    assert "&lt;script&gt;alert(1)" in page
