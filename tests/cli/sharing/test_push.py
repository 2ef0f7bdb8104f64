"""Runs on the hub: what is shared, the model card, and loading back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_server import HubServer
from typer.testing import Result

from mld.inference.held_out import cached_latents
from mld.inference.trained_run import load
from mld.sharing.model_card import CardFacts
from mld.sharing.push import push, write_repository
from mld.sharing.shared_files import without_folders
from mld.storage.digests import digest
from mld.storage.hub import HubAddress
from mld.storage.run_dir import RunDir
from mld_core import Registry, RunDirError, SpecError

# huggingface_hub sends large files to its HTTP library in an outdated way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def ends(result: Result, code: int, *words: str) -> None:
    """The command ends with a code and one message with these words."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


@pytest.fixture
def shared(finished_run: Path, registry: Registry, tmp_path: Path) -> RunDir:
    """The files that are shared of the finished run."""
    address = HubAddress("me/small")
    facts = CardFacts("apache-2.0", "Points, drawn by hand.", ["me/points"])
    write_repository(finished_run, tmp_path / "shared", address, registry, facts, False)
    return RunDir(tmp_path / "shared")


def test_a_run_gives_the_same_samples_from_the_hub(
    finished_run: Path, hub: HubServer, mld: Callable[..., Result]
) -> None:
    request = ("--given", "right=4 0 0 0 1 0", "-n", "3", "--seed", "5")
    assert mld("sample", finished_run, *request, "--out", "here").exit_code == 0
    result = mld("push", finished_run, "somebody/other-name")
    assert result.exit_code == 0, result.output
    address = result.stdout.strip()
    assert address.startswith("hub:somebody/other-name@")
    for each in ("hub:somebody/other-name", address):
        result = mld("sample", each, *request, "--out", each.replace("/", "-"))
        assert result.exit_code == 0, result.output
        for file in Path("here").glob("*/*"):
            assert Path(each.replace("/", "-"), *file.parts[1:]).read_bytes() == file.read_bytes()
    assert len(list(Path("here").glob("*/*"))) == 6
    result = mld("load", "hub:somebody/other-name", "--json")
    assert json.loads(result.stdout)["modalities"] == {
        "left": "points",
        "right": "marks",
        "third": "points",
    }


def test_only_what_loading_needs_is_shared(shared: RunDir, finished_run: Path) -> None:
    names = {path.relative_to(shared.path) for path in shared.path.rglob("*") if path.is_file()}
    suffixes = {name.suffix for name in names if name.parts[0] != "samples"}
    assert suffixes == {".json", ".safetensors", ".yaml", ".md"}
    assert {name.parts[1] for name in names if name.parts[0] == "samples"} == {"joint"}
    assert not any(name.parts[0] == "latents" or name.name == "invalid.csv" for name in names)
    for name in names:
        text = (shared.path / name).read_bytes().decode(errors="replace")
        assert str(finished_run.parent) not in text
        assert "/tmp" not in text


def test_folders_of_this_machine_are_not_shared(
    finished_run: Path, registry: Registry, tmp_path: Path
) -> None:
    run_dir = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    start = {"run": "/home/me/earlier", "digest": "0"}
    reseal(run_dir.provenance, start_from=start, command="mld run /home/me/small.yaml")
    marker = json.loads((run_dir.path / "stages" / "data.json").read_text())
    data = {**marker["fingerprint"]["data"], "path": "/home/me/rows.csv"}
    reseal(run_dir.path / "stages/data.json", fingerprint={**marker["fingerprint"], "data": data})
    folder, facts = tmp_path / "shared", CardFacts()
    write_repository(run_dir.path, folder, HubAddress("me/small"), registry, facts, False)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"/home/me" in path.read_bytes()]
    assert b"rows.csv" in (folder / "stages/data.json").read_bytes()


def test_absolute_paths_become_names() -> None:
    value = {"a": ["/home/me/x.csv", "relative/y.csv"], "b": "C:\\data\\z.csv", "c": 3}
    assert without_folders(value) == {"a": ["x.csv", "relative/y.csv"], "b": "z.csv", "c": 3}


def test_the_model_card(shared: RunDir) -> None:
    card = huggingface_hub.ModelCard.load(shared.path / "README.md")
    assert card.data.library_name == "mld-toolkit"
    assert card.data.pipeline_tag == "any-to-any"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["me/points"]
    assert {"mld", "points", "marks"} <= {*card.data.tags}
    metrics = shared.read_json(shared.metrics)
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results["joint coherence"] == round(metrics["joint_coherence"]["value"], 4)
    for row in metrics["conditional_coherence"]:
        if len(row["given"]) == 1:
            name = f"coherence of {row['target']} given {row['given'][0]}"
            assert results[name] == round(row["value"], 4)
            assert f"{row['value']:.3f}" in card.text
    assert "Points, drawn by hand." in card.text
    assert 'mld.load("hub:me/small")' in card.text
    assert "sampler: dpm-solver++" in card.text
    index = json.loads((shared.path / "stages" / "data.json").read_text())
    assert set(index["files"]) == {f"modalities/{name}.json" for name in ("left", "right", "third")}


def test_what_only_the_author_knows_is_not_guessed(
    finished_run: Path, mld: Callable[..., Result]
) -> None:
    result = mld("push", finished_run, "me/small", "--into", "repository")
    ends(result, 0, "without --license", "without --data")
    card = huggingface_hub.ModelCard.load("repository/README.md")
    assert card.data.license is None
    assert "has not stated a licence" in card.text
    assert "has not stated what the data are" in card.text


def test_a_later_push_replaces_the_earlier_one(
    finished_run: Path, hub: HubServer, registry: Registry, mld: Callable[..., Result]
) -> None:
    first = push(finished_run, "me/small", registry, with_latents=True)
    files = hub.repositories["me/small"].commits[first.partition("@")[2]]
    hub.repositories["me/small"].commit("main", {**files, "LICENSE": b"mine"})
    push(finished_run, "me/small", registry)
    files = hub.repositories["me/small"].commits[hub.repositories["me/small"].branches["main"]]
    assert files["LICENSE"] == b"mine"
    assert not any(name.startswith("latents/") for name in files)
    assert load(first, registry).run_dir.latents("test").is_file()
    assert not load("hub:me/small", registry).run_dir.latents("test").is_file()
    push(finished_run, "me/small", registry, revision="next", private=True)
    assert load("hub:me/small@next", registry).spec.name == "small"


def test_scores_need_latents(
    finished_run: Path, hub: HubServer, registry: Registry, mld: Callable[..., Result]
) -> None:
    push(finished_run, "me/full", registry, with_latents=True)
    pushed, local = load("hub:me/full", registry), load(finished_run, registry)
    for split in ("validation", "test"):
        latents = [cached_latents(run, split).z[:] for run in (pushed, local)]
        assert torch.equal(*map(torch.as_tensor, latents))
    with pytest.raises(RunDirError):
        cached_latents(pushed, "train")
    push(finished_run, "me/small", registry)
    ends(mld("information", "hub:me/small"), 6, "shared without its latents", "--with-latents")


def test_refusals(
    finished_run: Path, hub: HubServer, mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("me/else", {"model.bin": b"0"})
    hub.create("me/private", {"spec.yaml": b""}, private=True)
    ends(mld("push", finished_run, "me/else"), 6, "holds 'model.bin' and no run")
    ends(mld("push", finished_run, "me"), 3, "owner/name")
    ends(mld("push", Path("nothing"), "me/small"), 6, "is not a run directory")
    ends(mld("load", "hub:me/else"), 6, "hub:me/else")
    ends(mld("load", "hub:me/else@v2"), 6, "no such revision")
    ends(mld("load", "hub:me/nothing"), 6, "no such repository", "hf auth login")
    ends(mld("load", "hub:me"), 3, "hub:owner/name")
    ends(mld("load", "hub:../x@1"), 3, "hub:owner/name")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    ends(mld("load", "hub:me/private"), 6, "hf auth login")
    ends(mld("push", finished_run, "me/small"), 6, "hf auth login")


def test_an_unfinished_run_is_not_shared(finished_run: Path, mld: Callable[..., Result]) -> None:
    shutil.copytree(finished_run, "half")
    Path("half/stages/evaluate.json").unlink()
    ends(mld("push", "half", "me/small", "--into", "out"), 6, "evaluate is incomplete")
    assert not Path("out").exists()


def test_without_a_network(
    finished_run: Path, hub: HubServer, registry: Registry, mld: Callable[..., Result]
) -> None:
    push(finished_run, "me/small", registry)
    assert mld("load", "hub:me/small").exit_code == 0
    hub.stop()
    assert mld("load", "hub:me/small").exit_code == 0
    ends(mld("load", "hub:me/other"), 6, "cannot be reached")
    ends(mld("push", finished_run, "me/small"), 6, "cannot be reached")


def test_nothing_but_data_is_downloaded(
    finished_run: Path, hub: HubServer, registry: Registry
) -> None:
    push(finished_run, "me/small", registry)
    repository = hub.repositories["me/small"]
    files = repository.commits[repository.branches["main"]]
    extra = ("modeling.py", "stages/x.pkl", "diffusion/network.bin", "conftest.py", "a/spec.yaml")
    repository.commit("main", {**files, **dict.fromkeys(extra, b"import os; os._exit(1)")})
    folder = load("hub:me/small", registry).run_dir.path
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert not names & {*extra}
    assert not any(name.startswith("samples") for name in names)
    assert hub.requests.count(("GET", "/me/small/resolve/main/modeling.py")) == 0


def test_damaged_files_of_the_hub(finished_run: Path, hub: HubServer, registry: Registry) -> None:
    push(finished_run, "me/small", registry)
    repository = hub.repositories["me/small"]
    files = repository.commits[repository.branches["main"]]
    weights = bytearray(files["diffusion/ema.safetensors"])
    weights[-1] ^= 1
    repository.commit("main", {**files, "diffusion/ema.safetensors": bytes(weights)})
    with pytest.raises(RunDirError, match="is not as stage diffuse wrote it"):
        load("hub:me/small", registry)


def reseal(path: Path, **fields: object) -> None:
    content = json.loads(path.read_text())
    del content["sha256"]
    content |= fields
    path.write_text(json.dumps({**content, "sha256": digest(content)}))


def test_a_run_of_a_later_format(shared: RunDir, registry: Registry) -> None:
    assert load(shared.path, registry)
    reseal(shared.path / ".mld.json", format=2)
    with pytest.raises(RunDirError, match="later version of mld, in format 2"):
        load(shared.path, registry)


def test_missing_plugins(shared: RunDir, registry: Registry) -> None:
    plugins = {"points": "?", "tide": "mld-tide 0.3.1", "evil": "x; rm -rf ~ 1", "wave": "mld-a 1"}
    reseal(shared.provenance, plugins=plugins)
    with pytest.raises(SpecError) as caught:
        load(shared.path, registry)
    message = str(caught.value)
    assert "pip install 'mld-a==1' 'mld-tide==0.3.1'" in message
    assert "kind 'tide' of mld-tide 0.3.1" in message
    assert "rm" not in message.partition("\n")[0]


def test_addresses() -> None:
    address = HubAddress.parse("hub:a-b/c.d@refs/pr/1")
    assert address == HubAddress("a-b/c.d", "refs/pr/1")
    assert str(address) == "hub:a-b/c.d@refs/pr/1"
    assert HubAddress.parse(str(replace(address, revision=None))).revision is None
