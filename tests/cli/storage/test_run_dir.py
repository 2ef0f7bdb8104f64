from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mld.storage.digests import digest
from mld.storage.files import atomic_write
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld_core.errors import RunDirError

FINGERPRINT = {"spec": {"steps": 10, "network": {"width": 512}}, "inputs": ["abc"]}


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@pytest.fixture
def complete_run(run_dir: RunDir) -> RunDir:
    """A run whose stage "diffuse" is done."""
    run_dir.write_tensors(run_dir.network, {"weight": torch.arange(6.0).reshape(2, 3)})
    run_dir.write_json(run_dir.metrics, {"value": 1})
    run_dir.mark_complete(
        "diffuse", FINGERPRINT, [run_dir.network, run_dir.metrics], 1.5, {"rows": 4}
    )
    return run_dir


def flip_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_nothing_is_created_before_the_first_write(run_dir: RunDir) -> None:
    assert not run_dir.is_current("data", {})
    assert run_dir.read_events() == []
    assert pickle.loads(pickle.dumps(run_dir)) == run_dir
    assert not run_dir.path.exists()


def test_warnings_are_logged_and_issued(run_dir: RunDir) -> None:
    with pytest.warns(UserWarning, match="^two rows are alike$"):
        run_dir.warn("data", "two rows are alike")
    (event,) = run_dir.read_events()
    assert (event["event"], event["stage"]) == ("warning", "data")
    assert event["message"] == "two rows are alike"


def test_importing_storage_loads_neither_torch_nor_fabric() -> None:
    code = (
        "import sys, mld.storage.run_dir, mld.storage.weight_store; "
        "print({'torch', 'lightning_fabric'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_complete_stage_keeps_its_marker(complete_run: RunDir) -> None:
    assert complete_run.is_current("diffuse", FINGERPRINT)
    assert complete_run.is_current("diffuse", json.loads(json.dumps(FINGERPRINT)))
    assert complete_run.stage_metadata("diffuse") == {"rows": 4}
    assert complete_run.stage_seconds("diffuse") == 1.5
    assert complete_run.stage_digest("diffuse") == digest(FINGERPRINT)


def test_verify_stage(complete_run: RunDir) -> None:
    assert complete_run.is_complete("diffuse")
    complete_run.verify_stage("diffuse")
    complete_run.check_fingerprint("diffuse", FINGERPRINT)
    with pytest.raises(
        RunDirError, match=r"run: stage evaluate is incomplete; run `mld run SPEC` to finish it"
    ):
        complete_run.verify_stage("evaluate")


def test_a_changed_fingerprint_is_listed_key_by_key(complete_run: RunDir) -> None:
    changed = {"spec": {"steps": 20, "network": {"width": 512}, "ema": None}, "inputs": ["abc"]}
    with pytest.raises(RunDirError) as error:
        complete_run.is_current("diffuse", changed)
    assert str(error.value) == (
        f"{complete_run.path}: stage diffuse is out of date, because its inputs have changed:\n"
        "  spec.ema: nothing -> null\n"
        "  spec.steps: 10 -> 20\n"
        "recompute it and the stages after it with `mld run SPEC --from-stage diffuse`, or "
        "choose another folder with --out"
    )


def test_settings_of_the_machine_can_be_kept(run_dir: RunDir) -> None:
    before = {"diffuse": {"steps": 1}, "threads": 1, "precision": "32-true"}
    run_dir.mark_complete("diffuse", before, [], 0.0)
    line = "  threads: 1 -> 2: go on with --set compute.threads=1"
    with pytest.raises(RunDirError) as error:
        run_dir.check_fingerprint("diffuse", {**before, "threads": 2})
    assert str(error.value).splitlines()[1:] == [line]
    with pytest.raises(RunDirError) as error:
        run_dir.check_fingerprint("diffuse", {"diffuse": {"steps": 2}, "threads": 2})
    changes = str(error.value).splitlines()[1:]
    assert changes[1].endswith(": go on with --set compute.precision=32-true")
    assert changes[2] == line
    assert "--from-stage diffuse" in changes[3]


@pytest.mark.parametrize("name", ["diffusion/network.safetensors", "metrics.json"])
def test_a_corrupted_byte_of_a_file_is_an_error(complete_run: RunDir, name: str) -> None:
    path = complete_run.path / name
    intact = path.read_bytes()
    for at in range(0, len(intact), 7):
        flip_bit(path, at)
        with pytest.raises(RunDirError, match=rf"{name} is not as .*--from-stage diffuse"):
            complete_run.is_current("diffuse", FINGERPRINT)
        path.write_bytes(intact)
    path.unlink()
    with pytest.raises(RunDirError, match=rf"{name} is missing: .*--from-stage diffuse"):
        complete_run.is_current("diffuse", FINGERPRINT)


def test_a_corrupted_byte_of_a_marker_is_an_error(complete_run: RunDir) -> None:
    path = complete_run.path / "stages" / "diffuse.json"
    intact = path.read_bytes()
    for at in range(0, len(intact), 5):
        flip_bit(path, at)
        if path.read_bytes().split() == intact.split():
            continue  # a space for a line end changes nothing
        with pytest.raises(RunDirError, match=r"diffuse\.json is corrupt.*--from-stage diffuse"):
            complete_run.stage_metadata("diffuse")
    path.write_bytes(intact[:40])
    with pytest.raises(RunDirError, match=r"diffuse\.json is corrupt"):
        complete_run.is_current("diffuse", FINGERPRINT)


def test_tensors_come_back_as_they_were(run_dir: RunDir) -> None:
    tied = torch.randn(3, 4)
    code = {
        "float": tied.T,
        "tied": tied,
        "half": torch.randn(5).bfloat16(),
        "scalar": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 3),
    }
    path = run_dir.latents("train")
    run_dir.write_tensors(path, code, {"classes": "ten"})
    tensors, metadata = run_dir.read_tensors_and_metadata(path)
    assert metadata == {"classes": "ten"}
    assert tensors.keys() == code.keys()
    for name, tensor in code.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_a_tensor_file_notices_by_itself_what_befalls_it(run_dir: RunDir) -> None:
    path = run_dir.autoencoder("digit")
    run_dir.write_tensors(path, {"weight": torch.randn(8)}, {"step": "12"})
    intact = path.read_bytes()
    for at in range(0, len(intact), 3):
        flip_bit(path, at)
        with pytest.raises(RunDirError, match=r"digit\.safetensors is corrupt.*autoencode`"):
            run_dir.read_tensors(path)
        path.write_bytes(intact)
    path.write_bytes(intact[:-1])
    with pytest.raises(RunDirError, match="is corrupt"):
        run_dir.read_tensors(path)
    path.unlink()
    with pytest.raises(RunDirError, match=r"is missing: .*--from-stage autoencode"):
        run_dir.read_tensors(path)


def test_json_errors_name_the_stage_to_redo(run_dir: RunDir) -> None:
    with pytest.raises(RunDirError, match=r"digit\.json is missing: .*--from-stage data"):
        run_dir.read_json(run_dir.modality_facts("digit"))
    run_dir.write_text(run_dir.metrics, '{"value": ')
    with pytest.raises(RunDirError, match=r"metrics\.json is corrupt: .*--from-stage evaluate"):
        run_dir.read_json(run_dir.metrics)
    with pytest.raises(ValueError, match="JSON compliant"):
        run_dir.write_json(run_dir.metrics, {"value": float("nan")})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way() -> None:
        with atomic_write(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_invalidate_from_a_stage(run_dir: RunDir) -> None:
    for stage in STAGE_NAMES:
        run_dir.mark_complete(stage, {}, [], 0.0)
    for job in ("autoencode/digit", "diffuse", "classify/digit"):
        run_dir.write_tensors(run_dir.checkpoint(job), {"weight": torch.zeros(1)})
    run_dir.invalidate_from("encode")
    complete = [stage for stage in STAGE_NAMES if run_dir.is_current(stage, {})]
    assert complete == ["data", "autoencode"]
    checkpoints = [path.name for path in (run_dir.path / "checkpoints").iterdir()]
    assert checkpoints == ["autoencode.digit.safetensors"]


def test_a_run_is_locked_against_other_processes(run_dir: RunDir) -> None:
    code = (
        "import sys; from pathlib import Path; from mld.storage.run_dir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock(): pass"
    )
    command = [sys.executable, "-c", code, str(run_dir.path)]
    with run_dir.lock():
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    message = f"{run_dir.path} is in use by process {os.getpid()} on "
    assert f"mld_core.errors.RunDirError: {message}" in second.stderr
    subprocess.run(command, check=True)
    with run_dir.lock():
        pass


def test_events_survive_a_process_killed_while_it_wrote_one(run_dir: RunDir) -> None:
    run_dir.log("warning", stage="data", message="naïve")
    with run_dir.events.open("a") as file:
        file.write('{"time": "2024-')
    run_dir.log("train", loss=1.5)
    first, second = run_dir.read_events()
    assert (first["event"], first["message"]) == ("warning", "naïve")
    assert (second["event"], second["loss"]) == ("train", 1.5)


def test_a_stage_logs_its_states(run_dir: RunDir) -> None:
    with run_dir.stage("data") as seconds:
        assert seconds() >= 0
        assert run_dir.read_json(run_dir.status)["state"] == "started"
    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error), run_dir.stage("encode"):
            raise error
    code = [(event["stage"], event["state"]) for event in run_dir.read_events()]
    assert code == [
        ("data", "started"),
        ("data", "finished"),
        ("encode", "started"),
        ("encode", "interrupted"),
        ("encode", "started"),
        ("encode", "failed"),
    ]
    assert run_dir.read_json(run_dir.status)["state"] == "failed"


@pytest.mark.parametrize(
    ("changes", "is_file"), [({"rows": "b"}, True), ({"rows": "b", "seed": 2}, False)]
)
def test_changed_file_is_named_as_the_reason(
    tmp_path: Path, changes: dict[str, Any], is_file: bool
) -> None:
    run_dir, fingerprint = RunDir(tmp_path), {"rows": "a", "seed": 1, "threads": 1}
    run_dir.mark_complete("data", fingerprint, [], 0.0, {})
    with pytest.raises(RunDirError) as error:
        run_dir.check_fingerprint("data", fingerprint | changes)
    message = str(error.value)
    assert "  rows: the dataset gives other rows\n" in message
    assert ("a file that the dataset reads has changed" in message) is is_file
    assert "--from-stage data" in message
