"""Try an installed mld as a user does: versions, plugins, a new modality, a small run and samples.

    python .ci/try_package.py

Run it outside the checkout, with the Python of an environment that has the wheel and its extra
`builtin`. It leaves nothing behind, and works on Linux, macOS and Windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SPEC = """
name: small
data: {kind: examples, train: 60, validation: 20, test: 20}
modalities:
  digit: {kind: image, latent_dim: 4, size: 16, channels: 1}
  word: {kind: text, latent_dim: 4, max_bytes: 32}
autoencode: {steps: 10, batch_size: 32}
diffuse: {steps: 20, batch_size: 32, network: {kind: residual-mlp, width: 32, depth: 1}}
generate: {steps: 3, num_samples: 20, num_previews: 2}
evaluate: {steps: 10}
compute: {accelerator: cpu, threads: 2}
"""
SCRIPT = """
import mld

# Without a main guard: processes that train must not run this script again.
run = mld.load("runs/small")
run.sample({"word": "seven"}, want=["digit"], n=2).write("sevens")
"""


def mld(*words: str) -> str:
    """The output of `python -m mld`, which must succeed."""
    print("mld", *words, flush=True)
    command = [sys.executable, "-m", "mld", *words]
    process = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return process.stdout.strip()


def main() -> None:
    """Raise an exception unless everything works."""
    assert mld("--version").startswith("mld-toolkit ")
    modalities = json.loads(mld("modalities", "--strict", "--json"))
    kinds = {entry["kind"] for entry in modalities}
    assert {"image", "audio", "text", "molecule", "number", "category", "vector"} <= kinds
    package = Path(mld("new-modality", "spectrum"))
    assert (package / "pyproject.toml").is_file()
    Path("small.yaml").write_text(SPEC, encoding="utf-8")
    assert mld("spec", "validate", "small.yaml")
    report = Path(mld("run", "small.yaml").splitlines()[-1])
    assert "</html>" in report.read_text(encoding="utf-8")
    assert mld("run", "small.yaml").splitlines()[-1] == str(report)
    samples = mld("sample", "runs/small", "--given", "word=seven", "--want", "digit", "-n", "2")
    assert all(Path(line).is_file() for line in samples.splitlines())
    Path("script.py").write_text(SCRIPT, encoding="utf-8")
    subprocess.run([sys.executable, "script.py"], check=True)
    assert len([*Path("sevens").rglob("*.png")]) == 2
    print("everything works")


if __name__ == "__main__":
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        os.environ["MLD_STORE"] = str(Path(folder) / "store")
        try:
            main()
        finally:
            os.chdir(Path(folder).parent)
