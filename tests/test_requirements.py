"""What an installation brings: only what it needs, and no library that sends anything anywhere."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
CORE = {
    *("filelock", "jaxtyping", "jinja2", "lazy-loader", "lightning-fabric", "loky", "numpy"),
    *("packaging", "platformdirs", "pluggy", "psutil", "pydantic", "pyyaml", "rich", "safetensors"),
    *("scipy", "torch", "typer"),
}
"""The libraries that every installation has; one more needs a reason."""
OPTIONAL = {
    *("gradio", "fastapi", "huggingface-hub", "mlflow", "mlflow-skinny", "tensorboard", "trackio"),
    *("wandb", "onnx", "onnxruntime", "transformers", "diffusers", "datasets", "ray", "submitit"),
}
"""Libraries that come with an extra of their own alone."""


def of_extra(name: str) -> set[Requirement]:
    """The requirements of an extra, with those of the extras that it includes."""
    requirements: set[Requirement] = set()
    for text in PROJECT["optional-dependencies"][name]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            requirements |= {each for extra in requirement.extras for each in of_extra(extra)}
        else:
            requirements.add(requirement)
    return requirements


def installed_with(requirements: set[Requirement]) -> set[str]:
    """The distributions that these and all that they require name, as far as they are installed."""
    names: set[str] = set()
    queue = [*requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if name in names and not requirement.extras:
            continue
        names.add(name)
        try:
            texts = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for each in map(Requirement, texts):
            if each.marker is None or any(each.marker.evaluate({"extra": x}) for x in extras):
                queue.append(each)
    return names


def test_core_requires_no_more() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert names == CORE


@pytest.mark.parametrize("extra", ["builtin", "image", "audio", "text", "molecule"])
def test_included_plugins_bring_no_tracker_and_no_server(extra: str) -> None:
    core = {Requirement(text) for text in PROJECT["dependencies"]}
    names = installed_with(core | of_extra(extra))
    assert names >= CORE
    assert len(names) > len(CORE) + 5
    assert not names & OPTIONAL


def test_everything_optional_is_in_the_extra_all() -> None:
    extras = {*PROJECT["optional-dependencies"]} - {"all", "dev", "docs", "pages"}
    everything = {requirement.name for requirement in of_extra("all")}
    for extra in extras:
        assert {requirement.name for requirement in of_extra(extra)} <= everything, extra


def test_classifiers_name_the_versions_of_the_workflow() -> None:
    workflow = Path(__file__).parent.parent / ".github" / "workflows" / "tests.yml"
    if not workflow.is_file():  # a source distribution has none
        pytest.skip("the workflow belongs to the repository alone")
    classifiers = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python ::" in line
    ]
    for versions in re.findall(r"python: (\[.*\])", workflow.read_text()):
        assert {*re.findall(r"[\d.]+", versions)} <= {*classifiers}
    assert f"python: {str(classifiers).replace(chr(39), chr(34))}" in workflow.read_text()
    assert PROJECT["requires-python"] == f">={classifiers[0]}"
