"""Networks as ONNX files, which must compute what torch does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

from mld.exporting.networks import ExportedNetwork, exported_score_network
from mld.exporting.onnx_files import difference_from_torch, export_onnx, write_onnx
from mld.inference.trained_run import load
from mld_core import OutputError, PluginError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.networks import NETWORKS
from mld_core.diffusion.schedule import VPSchedule

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[3] / "docs" / "exporting.md"


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are symbols while a network is traced, and those of tests are checked as numbers."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def small(module: nn.Module) -> ExportedNetwork:
    torch.manual_seed(0)
    return ExportedNetwork("small", "the small network", module, {"z": torch.randn(5, 4)}, "x")


def test_a_file_of_another_network_differs(tmp_path: Path) -> None:
    network = small(nn.Linear(4, 3))
    write_onnx(network, tmp_path / "small.onnx", 18)
    assert difference_from_torch(network, tmp_path / "small.onnx") < 1e-6
    other = replace(network, module=nn.Linear(4, 3))
    with pytest.raises(PluginError, match="differs from torch by"):
        difference_from_torch(other, tmp_path / "small.onnx")
    wider = replace(network, module=nn.Linear(4, 2))
    with pytest.raises(PluginError, match="shape"):
        difference_from_torch(wider, tmp_path / "small.onnx")
    (tmp_path / "small.onnx").write_bytes(b"no network")
    with pytest.raises(PluginError, match="does not run"):
        difference_from_torch(network, tmp_path / "small.onnx")


class BranchOnValues(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z if bool(z.sum() > 0) else -z


def test_what_torch_cannot_trace_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="the small network cannot be exported to ONNX"):
        write_onnx(small(BranchOnValues()), tmp_path / "small.onnx", 18)


def score_network(kind: str, **settings: int) -> ExportedNetwork:
    layout = LatentLayout({"digit": (2, 4, 4), "word": (6, 3), "mass": (1,)})
    torch.manual_seed(0)
    module = NETWORKS[kind](layout, VPSchedule(), width=32, depth=2, **settings)
    for parameter in module.parameters():
        # Layers that are zero at first would hide what is before them.
        nn.init.normal_(parameter, std=0.2)
    return exported_score_network(module, layout)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("transformer", {"heads": 2, "patch": 2}),
        pytest.param("unet-mlp", {}, marks=pytest.mark.long),
        pytest.param("residual-mlp", {}, marks=pytest.mark.long),
    ],
)
def test_score_networks_can_be_exported(
    kind: str, settings: dict[str, int], tmp_path: Path
) -> None:
    network = score_network(kind, **settings)
    write_onnx(network, tmp_path / "network.onnx", 18)
    assert difference_from_torch(network, tmp_path / "network.onnx") < 1e-5


def test_a_network_for_each_subset_cannot_be_traced(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="cannot be exported to ONNX"):
        write_onnx(score_network("per-subset"), tmp_path / "network.onnx", 18)


def run_docs(replacements: Mapping[str, str]) -> dict[str, Any]:
    """The names that the code of docs/exporting.md defines, for another run than the demo."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL))
    for old, new in replacements.items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_a_run_is_exported(
    finished_run: Path, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(finished_run, small_run.registry())
    files = export_onnx(run, tmp_path / "out")
    stems = ["decode-left", "decode-right", "decode-third", "network"]
    assert [file.stem for file in files] == stems
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["files"]["network.onnx"]["inputs"]["roles"] == {
        "dtype": "int64",
        "shape": ["batch", 3],
    }
    assert facts["roles"] == {"GENERATED": 0, "OBSERVED": 1, "ABSENT": 2}
    assert len(facts["standardiser"]["mean"]) == 4 + 5 + 4

    import onnxruntime

    z = run.encode({"right": "4 0 4 0 5 0"})["right"]
    session = onnxruntime.InferenceSession(str(files[1]))
    (x,) = session.run(["x"], {"z": z.numpy()})
    with torch.no_grad():
        expected = run.autoencoders["right"].decode(z)
    torch.testing.assert_close(torch.from_numpy(x), expected)

    monkeypatch.chdir(tmp_path)
    names = run_docs(
        {
            "digits-onnx": "out",
            "(1, 16)": "(1, 5)",
            "decode-digit": "decode-right",
            'latents["digit"]': 'latents["right"]',
        }
    )
    assert names["x"].shape == (1, 6)
    # Samples of the small run are near the corners of a cube of side 4, as its data are.
    corners = np.abs(names["digits"][:, :4] - 2)
    assert corners.mean() == pytest.approx(2, abs=0.7)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        export_onnx(run, tmp_path / "other")
