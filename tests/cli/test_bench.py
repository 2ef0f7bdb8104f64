"""Suites: the grid, what is run of it, and what comes of it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mld.app import app
from mld.bench.aggregate import lines_of, mean_of
from mld.bench.cells import Bench, Cell, in_order, make_cells
from mld.bench.compare import compare
from mld.bench.eta import RATE, Forecast
from mld.bench.executors import Executor, Job, RayExecutor
from mld.bench.grid import grid
from mld.bench.leaderboard import write_leaderboard
from mld.bench.runner import Course, run_cells
from mld.bench.suite import load_suite
from mld.config.spec import load_spec
from mld.storage.run_dir import RunDir
from mld_core import Registry, RunDirError, SpecError

BASE = """
name: base
data: {kind: examples, train: 60, validation: 20, test: 20}
modalities:
  a: {kind: text, latent_dim: 4, max_bytes: 32}
  b: {kind: text, latent_dim: 4, max_bytes: 32}
  c: {kind: text, latent_dim: 4, max_bytes: 32}
autoencode: {steps: 5, overrides: {b: {steps: 6}, c: {steps: 7}}}
diffuse: {steps: 5, batch_size: 16, network: {kind: residual-mlp, width: 16, depth: 1}}
generate: {steps: 3, num_samples: 20, num_previews: 0, subsets: [[], [a], [b, c]]}
evaluate: {steps: 5}
"""
IMAGE = "a: {kind: image, latent_dim: 4, size: 16, channels: 1}"
SUITE = """
name: small
spec: base.yaml
modalities: [[a, b]]
methods:
  mld: {}
  paper: {diffuse.roles: paper, generate.guidance: 0}
seeds: [0, 1]
"""
COHERENCE = {("mld", 0): 0.8, ("mld", 1): 0.9, ("paper", 0): 0.5, ("paper", 1): 0.7}


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str = SUITE, base: str = BASE) -> Path:
        (tmp_path / "base.yaml").write_text(base)
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def cells(suite_file: Callable[..., Path]) -> list[Cell]:
    return make_cells(load_suite(suite_file()), Registry())


@pytest.fixture
def finish(write_run: Callable[..., RunDir]) -> Callable[[Bench, Cell, float], None]:
    """Leaves a cell as a run with this joint coherence would."""

    def finish(bench: Bench, cell: Cell, coherence: float) -> None:
        run_dir = write_run(bench.run_dir(cell).path, True, 0)
        scores = run_dir.read_json(run_dir.metrics)
        scores["joint_coherence"]["value"] = coherence
        run_dir.write_json(run_dir.metrics, scores)
        run_dir.mark_complete("diffuse", {}, [], 12.5, {"parameters": {"diffuse": 1000}})
        for stage in ("data", "autoencode", "latents", "generate", "evaluate", "report"):
            run_dir.mark_complete(stage, {}, [], 1.0)

    return finish


class Instant(Executor):
    """Runs that are over at once, some of them failed."""

    slots = 2

    def __init__(self, finish: Callable[..., None], bench: Bench, broken: tuple[str, ...] = ()):
        self.finish, self.bench, self.broken = finish, bench, broken
        self.started: list[str] = []

    def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
        told = load_spec(spec, Registry())
        self.started.append(out.name)
        paper = told.diffuse.roles == "paper"
        method = "paper" if paper else "mld"
        if method in self.broken:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("loading\nerror: no luck\nmore words\n")
            return Over(5)
        cell = Cell(None, "", out.name)  # type: ignore[arg-type]
        self.finish(self.bench, cell, COHERENCE[method, told.seed])
        return Over(0)


class Over(Job):
    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        raise AssertionError("nothing runs")

    def wait(self) -> None:
        raise AssertionError("nothing runs")


def test_the_grid_is_the_product_of_its_axes(suite_file: Callable[..., Path]) -> None:
    more = (
        "samplers: {few: {steps: 2}}\nmissing: [0, 0.5]\nguidance: [0, {conditional: 1, joint: 2}]"
    )
    suite = load_suite(suite_file(f"{SUITE.replace('[[a, b]]', 'all')}{more}"))
    cells = list(grid(suite))
    assert len(cells) == 4 * 2 * 2 * 2 * 2 - 4 * 2 * 2  # the paper's guidance is its own
    variant = "mld · missing 0.5 · few · w 1/2"
    at, document = next(
        (at, own) for at, own in cells if (at.modalities, at.variant) == (("a", "b"), variant)
    )
    assert str(at) == f"a+b, {variant}, seed 0"
    assert document.value == {
        "name": "base",
        "data": {"kind": "examples", "train": 60, "validation": 20, "test": 20}
        | {"missing": {"rate": 0.5}},
        "modalities": {name: {"kind": "text", "latent_dim": 4, "max_bytes": 32} for name in "ab"},
        "autoencode": {"steps": 5, "overrides": {"b": {"steps": 6}}},
        "diffuse": {"steps": 5, "batch_size": 16}
        | {"network": {"kind": "residual-mlp", "width": 16, "depth": 1}},
        "generate": {"steps": 2, "num_samples": 20, "num_previews": 0, "subsets": [[], ["a"]]}
        | {"guidance": {"conditional": 1, "joint": 2}},
        "evaluate": {"steps": 5},
        "seed": 0,
        "compute": {"threads": 1},
    }


def test_the_command_lines_settings_win_over_what_the_suite_sets_in_every_cell(
    suite_file: Callable[..., Path],
) -> None:
    path = suite_file(f"{SUITE}set: {{diffuse.steps: 9, evaluate: {{steps: 8}}}}\n")
    cells = list(grid(load_suite(path, ["diffuse.steps=3", "evaluate.steps=4"])))
    assert {document.value["diffuse"]["steps"] for _, document in cells} == {3}
    assert {document.value["evaluate"]["steps"] for _, document in cells} == {4}


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("seed=7", "seeds"),
        (" seed = 7", "seeds"),
        ("compute.threads=4", "threads"),
        ("generate.guidance=2", "guidance"),
        ("data.missing.rate=0.5", "missing"),
        ("generate.steps=9", "samplers"),
        ("diffuse.network.width=8", "methods"),
    ],
)
def test_the_command_line_cannot_set_what_the_suite_varies(
    suite_file: Callable[..., Path], override: str, field: str
) -> None:
    network = "diffuse.network: {kind: residual-mlp}"
    methods = f"\n  mld: {{{network}}}\n  paper: {{{network}, diffuse.roles: paper}}"
    axes = "guidance: [0, 1]\nmissing: [0, 0.5]\nsamplers: [{steps: 2}, {steps: 3}]"
    path = suite_file(with_methods(methods, axes))
    name = override.partition("=")[0].strip()
    with pytest.raises(SpecError, match=f"^--set {name}: is what the suite's `{field}` sets"):
        load_suite(path, [override])


def test_the_command_line_sets_what_only_some_cells_settle(
    suite_file: Callable[..., Path],
) -> None:
    axes = "samplers: [{steps: 2}, {sampler: heun}]"
    path = suite_file(with_methods("\n  mld: {}\n  paper: {diffuse.roles: paper}", axes))
    cells = list(grid(load_suite(path, ["generate.steps=9", "diffuse.roles=independent"])))
    told = {(cell.value["diffuse"]["roles"], cell.value["generate"]["steps"]) for _, cell in cells}
    assert told == {("independent", 2), ("independent", 9), ("paper", 2), ("paper", 9)}


def with_methods(methods: str, axes: str) -> str:
    """The suite with other methods, and axes besides."""
    return f"{SUITE.partition('methods:')[0]}methods:{methods}\n{axes}\n"


def test_what_a_method_settles_is_not_varied_for_it(suite_file: Callable[..., Path]) -> None:
    methods = """
  mld: {}
  own: {generate: {sampler: heun, steps: 3}}
  rival: {diffuse: {method: other, steps: 7}}"""
    axes = "samplers: [{sampler: ddim, steps: 2}, {steps: 3}]\nguidance: [0, 1]"
    cells = list(grid(load_suite(suite_file(with_methods(methods, axes)))))
    assert [at.variant for at, _ in cells] == [
        "mld · ddim 2 · w 0",
        "mld · ddim 2 · w 1",
        "mld · 3 · w 0",
        "mld · 3 · w 1",
        "own · w 0",
        "own · w 1",
        "rival",
    ]
    assert cells[4][1].value["generate"] == {"sampler": "heun", "steps": 3, "guidance": 0}
    assert cells[6][1].value["diffuse"] == {"method": "other", "steps": 7}


def test_a_rate_or_a_part_of_guidance_of_its_own_is_not_varied_either(
    suite_file: Callable[..., Path],
) -> None:
    methods = """
  gaps: {data.missing.rate: 0.3}
  more: {data: {kind: examples, missing: {rate: 0.4}}}
  whole: {data.missing: null}
  pulled: {generate.guidance.joint: 3.0}"""
    for axis, values in (
        ("samplers: {weak: {guidance: {joint: 0.5}}}", ["weak"]),
        ("guidance: [0, 1]", ["w 0", "w 1"]),
    ):
        axes = f"{axis}\nmissing: [0, 0.5]"
        cells = list(grid(load_suite(suite_file(with_methods(methods, axes)))))
        assert [at.variant for at, _ in cells] == [
            *(f"{own} · {value}" for own in ("gaps", "more", "whole") for value in values),
            "pulled · missing 0",
            "pulled · missing 0.5",
        ]
        told = [document.value["data"]["missing"] for _, document in cells[:-2]]
        assert told[:: len(values)] == [{"rate": 0.3}, {"rate": 0.4}, None]
        assert cells[-1][1].value["generate"]["guidance"] == {"joint": 3.0}


def test_no_cell_missing_takes_the_bases_rate_away(suite_file: Callable[..., Path]) -> None:
    base = BASE.replace("test: 20}", "test: 20, missing: {rate: {a: 0.1, c: 0.2}}}")
    own, none, half = (
        document.value["data"].get("missing")
        for more in ("", "missing: [0, 0.5]")
        for at, document in grid(load_suite(suite_file(SUITE + more, base)))
        if (at.method, at.seed) == ("mld", 0)
    )
    assert (own, none, half) == ({"rate": {"a": 0.1}}, None, {"rate": 0.5})


def test_a_rivals_settings_by_modality_are_those_of_a_cells_set(
    suite_file: Callable[..., Path],
) -> None:
    rival = "rival: {diffuse: {method: other, rescale: {a: 1, c: 2}, shape: {a: 1, wide: 2}}}"
    text = SUITE.replace("paper: {diffuse.roles: paper, generate.guidance: 0}", rival)
    whole = {at.method: document.value for at, document in grid(load_suite(suite_file(text)))}
    assert whole["rival"]["diffuse"]["rescale"] == {"a": 1}
    assert whole["rival"]["diffuse"]["shape"] == {"a": 1, "wide": 2}


def test_the_base_spec_may_stand_in_the_suite(suite_file: Callable[..., Path]) -> None:
    inside = SUITE.replace("spec: base.yaml", f"spec:{indent(BASE, '  ')}")
    within, beside = (
        make_cells(load_suite(suite_file(text)), Registry()) for text in (inside, SUITE)
    )
    assert [cell.key for cell in within] == [cell.key for cell in beside]


def test_cells_that_would_wait_for_each_other_are_far_apart(
    suite_file: Callable[..., Path],
) -> None:
    text = "\n".join(line for line in SUITE.splitlines() if "paper" not in line)
    text = text.replace("[[a, b]]", "all")
    cells = make_cells(load_suite(suite_file(f"{text}\nguidance: [0, 1]")), Registry())
    order = [("+".join(own.at.modalities), own.at.seed, own.at.strength) for own in in_order(cells)]
    assert order[:4] == [("a+b+c", 0, "0"), ("a+b+c", 1, "0"), ("a+b", 0, "0"), ("a+b", 1, "0")]
    assert {strength for _, _, strength in order[:8]} == {"0"}
    assert {strength for _, _, strength in order[8:]} == {"1"}


def test_methods_that_only_sample_otherwise_share_a_network(
    suite_file: Callable[..., Path],
) -> None:
    text = SUITE.replace("  paper:", "  unguided: {generate.guidance: 0}\n  paper:")
    cells = make_cells(load_suite(suite_file(text)), Registry())
    networks = {(own.at.method, own.at.seed): own.network for own in cells}
    assert networks["mld", 0] == networks["unguided", 0]
    assert len(set(networks.values())) == 4
    rest = [own.at.method for own in in_order(cells)[4:]]
    assert rest == ["unguided", "unguided"]


def test_the_command_line_may_choose_the_seeds(suite_file: Callable[..., Path]) -> None:
    cells = make_cells(load_suite(suite_file(), seeds=[2, 0]), Registry())
    assert [own.at.seed for own in cells if own.at.method == "mld"] == [2, 0]
    first = make_cells(load_suite(suite_file()), Registry())[0]
    assert first.key == next(own.key for own in cells if own.at == first.at)
    with pytest.raises(SpecError, match="seeds: holds 1 twice"):
        load_suite(suite_file(), seeds=[1, 1])


def test_the_command_line_may_set_more_in_every_cell(suite_file: Callable[..., Path]) -> None:
    cells = make_cells(load_suite(suite_file(), ["data.train=50"]), Registry())
    assert all("train: 50" in cell.spec for cell in cells)
    with pytest.raises(SpecError, match="an override is written path=value"):
        make_cells(load_suite(suite_file(), ["data.train"]), Registry())


def test_a_cells_spec_is_whole_and_its_key_stays(
    cells: list[Cell], suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    assert len({cell.key for cell in cells}) == 4
    path = tmp_path / "frozen.yaml"
    path.write_text(cells[0].spec)
    spec = load_spec(path, Registry())
    assert list(spec.modalities) == ["a", "b"]
    assert spec.autoencode.of("b").steps == 6
    assert [cell.key for cell in make_cells(load_suite(suite_file()), Registry())] == [
        cell.key for cell in cells
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            ("seeds: [0, 1]", "seds: [0]"),
            "suite.yaml:8: seds: unknown field; did you mean",
        ),
        (("seeds: [0, 1]", "seeds: []"), "suite.yaml:8: seeds: "),
        (("[[a, b]]", "al"), "suite.yaml:4: modalities: must be base, all, or a list of lists"),
        (("[[a, b]]", "al"), "not 'al'; did you mean 'all'?"),
        (("[0, 1]", "[0, 0, 0]"), "suite.yaml:8: seeds: holds 0 twice"),
        (("[[a, b]]", "[[a, b], [b, a]]"), "suite.yaml:4: modalities: holds ['a', 'b'] twice"),
        (("[[a, b]]", "[[a, b, a]]"), "suite.yaml:4: modalities[0]: holds a twice"),
        (("seeds: [0, 1]", "missing: [0, 0.0]"), "suite.yaml:8: missing: holds 0.0 twice"),
        (("seeds: [0, 1]", "guidance: [1, 1.0]"), "suite.yaml:8: guidance: holds 1.0 twice"),
        (
            ("seeds: [0, 1]", "guidance: [0]\nsamplers: [{steps: 3}, {guidance.joint: 1}]"),
            "suite.yaml:9: samplers[1].guidance: is what the suite's `guidance` sets: leave one",
        ),
        (
            ("seeds: [0, 1]", "set: {seed: 3}"),
            "suite.yaml:8: set.seed: is what the suite's `seeds` sets: write it there",
        ),
        (
            ("seeds: [0, 1]", "set:\n  compute:\n    threads: 4"),
            "suite.yaml:10: set.compute.threads: is what the suite's `threads` sets: write it",
        ),
        (("seeds: [0, 1]", "guidance: [some]"), "suite.yaml:8: guidance[0]: must be a number or"),
        (("base.yaml", "bas.yaml"), "bas.yaml: cannot be read"),
        (("name: small", "name: a/b"), "suite.yaml:2: name: "),
    ],
)
def test_a_wrong_suite_is_told_with_its_place(
    suite_file: Callable[..., Path], change: tuple[str, str], complaint: str
) -> None:
    path = suite_file(SUITE.replace(*change))
    with pytest.raises(SpecError) as raised:
        load_suite(path)
    assert complaint in str(raised.value).replace(f"{path.parent}/", "")


def test_a_cell_that_cannot_be_is_a_fault_of_its_own(suite_file: Callable[..., Path]) -> None:
    text = SUITE.replace("paper: {", "nope: {diffuse: {method: nope}}\n  paper: {")
    text = text.replace("[[a, b]]", "[[a, b], [a, bb]]")
    path = suite_file(text)
    cells = make_cells(load_suite(path), Registry())
    faults = {str(own.at): own.fault.replace(f"{path.parent}/", "") for own in cells if own.fault}
    assert len(faults) == 2 + 3 * 2
    assert "suite.yaml:7: diffuse.method: no plugin of kind 'nope'" in faults["a+b, nope, seed 0"]
    told = "suite.yaml:4: modalities[1][1]: no modality 'bb' (modalities of the base spec: a, b, c)"
    assert faults["a+bb, mld, seed 1"] == f"{told}; did you mean 'b'?"


@pytest.mark.parametrize(
    ("subsets", "complaint"),
    [("[[], [c], a]", "subsets[2]: must be a list"), ("[[3]]", "subsets[0][0]: must be text")],
)
def test_wrong_subsets_are_left_to_the_specs_own_check(
    suite_file: Callable[..., Path], subsets: str, complaint: str
) -> None:
    path = suite_file(SUITE, BASE.replace("[[], [a], [b, c]]", subsets))
    with pytest.raises(SpecError) as raised:
        make_cells(load_suite(path), Registry())
    assert f"base.yaml:10: generate.{complaint}" in str(raised.value)


def test_a_base_spec_without_two_modalities_has_no_set(suite_file: Callable[..., Path]) -> None:
    lines = [line for line in BASE.splitlines() if line[:4] not in ("  b:", "  c:")]
    base = "\n".join(lines).replace(", overrides: {b: {steps: 6}, c: {steps: 7}}", "")
    path = suite_file(SUITE.replace("[[a, b]]", "all"), base.replace("[], [a], [b, c]", "[]"))
    with pytest.raises(SpecError, match=r"suite.yaml:4: modalities: no set of two: .* a alone"):
        make_cells(load_suite(path), Registry())
    suite_file(SUITE.replace("[[a, b]]", "all"), "modalities: 3")
    with pytest.raises(SpecError, match=r"base.yaml:1: modalities: must be"):
        make_cells(load_suite(path), Registry())


def test_where_no_cell_can_be_every_complaint_is_told_once(
    suite_file: Callable[..., Path],
) -> None:
    every = SUITE.replace("  mld: {}\n", "").replace("roles: paper", "roles: papr")
    with pytest.raises(SpecError) as raised:
        make_cells(load_suite(suite_file(every, BASE.replace("steps: 6", "steps: 0"))), Registry())
    lines = [line.rpartition("/")[2] for line in str(raised.value).splitlines()]
    assert sorted(lines) == [
        "base.yaml:8: autoencode.overrides.b.steps: must be above 0, not 0",
        "suite.yaml:6: diffuse.roles: must be one of 'three-role', 'paper', 'independent' or "
        "'joint', not 'papr'; did you mean 'paper'?",
    ]


def test_what_is_done_is_not_run_again(
    cells: list[Cell], finish: Callable[..., None], tmp_path: Path
) -> None:
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    executor = Instant(finish, bench, broken=("paper",))
    run_cells(bench, cells, executor, 1)
    assert sorted(executor.started) == sorted(cell.key for cell in cells)
    states = [bench.state(cell) for cell in cells]
    assert (states.count("done"), states.count("failed")) == (2, 2)
    failed = next(cell for cell in cells if bench.state(cell) == "failed")
    assert bench.failure(failed) == "no luck (exit code 5)"

    again = Instant(finish, bench)
    run_cells(bench, cells, again, 1)
    assert again.started == []
    bench.forgive(failed)
    run_cells(bench, cells, again, 1)
    assert again.started == [failed.key]


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (5, "error: 2 are bad:\n  row 1: torn\n  row 2\n", "2 are bad: row 1: torn"),
        (1, "RuntimeError: no luck\nThis is a mistake of mld.\n", "RuntimeError: no luck"),
        (-9, "diffuse: 10 of 20 steps\n", "ended by SIGKILL"),
        (3, "", "it said nothing"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_the_runs_own_words(
    cells: list[Cell], tmp_path: Path, code: int, log: str, reason: str
) -> None:
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    for cell in cells[:2]:
        bench.log(cell).parent.mkdir(parents=True, exist_ok=True)
        bench.log(cell).write_text(log)
        bench.fail(cell, code)
    assert bench.failure(cells[0]).startswith(reason)
    assert bench.failure(cells[0]).endswith(f"(exit code {code})")
    (told,) = bench.failures(cells)
    assert told[0] == "a+b, mld, seed 0 and 1 more"
    assert told[1].endswith(f": see logs/{cells[0].key}.log")


def test_what_fails_alike_is_told_once(suite_file: Callable[..., Path], tmp_path: Path) -> None:
    text = SUITE.replace("paper: {", "nope: {diffuse: {method: nope}}\n  paper: {")
    cells = make_cells(load_suite(suite_file(text)), Registry())
    (told,) = Bench(tmp_path / "out").failures(cells)
    assert told[0] == "a+b, nope, seed 0 and 1 more"
    assert "no plugin of kind 'nope'" in told[1]


def test_a_cell_that_a_left_run_still_holds_waits_for_it(
    cells: list[Cell],
    finish: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    held = bench.run_dir(cells[0])
    locked = held.lock()
    locked.__enter__()

    class Slow(Instant):
        def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
            if len(self.started) == 2:
                locked.__exit__(None, None, None)
            return super().start(spec, out, log, threads)

    executor = Slow(finish, bench)
    run_cells(bench, cells, executor, 1)
    assert executor.started[-1] == cells[0].key
    assert sorted(executor.started) == sorted(cell.key for cell in cells)
    assert capsys.readouterr().err.count(f"waits    {cells[0].at}: process {os.getpid()}") == 1


def test_methods_that_come_to_the_same_are_one_run(
    suite_file: Callable[..., Path], finish: Callable[..., None], tmp_path: Path
) -> None:
    path = suite_file(SUITE.replace("{diffuse.roles: paper, generate.guidance: 0}", "{}"))
    cells = make_cells(load_suite(path), Registry())
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)

    class Late(Instant):
        def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
            self.started.append(out.name)

            class Running(Over):
                def poll(self) -> int | None:
                    finish(bench, next(cell for cell in cells if cell.key == out.name), 0.8)
                    return self.code

            return Running(0)

    executor = Late(finish, bench)
    course = run_cells(bench, cells, executor, 1)
    assert sorted(executor.started) == sorted({cell.key for cell in cells})
    assert course.counts()["done"] == len(executor.started) == 2
    write_leaderboard(bench, load_suite(path).told, cells)
    assert "2 of 2 cells are done." in (bench.path / "leaderboard.md").read_text()
    shown = CliRunner().invoke(app, ["bench", str(path), "--out", str(bench.path), "--dry-run"])
    assert "2 cells: 2 done, 0 failed, 0 open" in shown.stdout


def test_two_suites_in_one_folder_are_refused_unless_they_are_shards(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "out")
    with bench.held("1/2"), bench.held("2/2"):
        with pytest.raises(RunDirError, match="1-of-2 is in use by process"), bench.held("1/2"):
            pass
        for other in ("", "1/3"):
            told = "of-2 is in use by process"
            with pytest.raises(RunDirError, match=told), bench.held(other):
                pass
    with bench.held(""):
        for shard in ("", "1/2"):
            with pytest.raises(RunDirError, match="out is in use by"), bench.held(shard):
                pass


def test_time_is_judged_by_the_cells_that_are_most_alike(
    cells: list[Cell], finish: Callable[..., None], tmp_path: Path
) -> None:
    bench = Bench(tmp_path / "out")
    rough = Forecast(bench, cells)
    assert not rough.measured
    # Two seeds: two autoencoders and two classifiers each, and four networks of 16 rows.
    rows = 2 * ((5 + 6) * 128 + 2 * 5 * 128) + 4 * 5 * 16
    assert rough.total(cells, 2) == pytest.approx(rows / RATE / 2)
    finish(bench, cells[0], 0.5)
    forecast = Forecast(bench, cells)
    assert forecast.of(cells[3]) == pytest.approx(6 * 1.0 + 12.5)
    forecast.add(cells[2], 40.0)
    assert (cells[3].at.method, forecast.of(cells[3])) == ("paper", 40.0)


def test_an_interruption_ends_what_runs(cells: list[Cell], tmp_path: Path) -> None:
    stopped = []

    class Endless(Executor):
        slots = 2

        def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
            class Running(Job):
                def poll(self) -> int | None:
                    raise KeyboardInterrupt

                def stop(self) -> None:
                    stopped.append(out.name)

                def wait(self) -> None:
                    assert len(stopped) == 2

            return Running()

    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    with pytest.raises(KeyboardInterrupt):
        run_cells(bench, cells, Endless(), 1)
    assert len(stopped) == 2
    assert {bench.state(cell) for cell in cells} == {"open"}


def test_means_and_intervals_are_those_of_the_book() -> None:
    figure = mean_of([0.8, 0.9, 1.0])
    assert figure is not None
    assert (figure.value, figure.spread) == pytest.approx((0.9, 0.1))
    assert figure.high - figure.value == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert mean_of([]) is None


@pytest.fixture
def finished(cells: list[Cell], finish: Callable[..., None], tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    run_cells(bench, cells, Instant(finish, bench), 1)
    return bench


def test_a_run_that_another_suite_has_finished_is_done(finished: Bench, cells: list[Cell]) -> None:
    finished.fail(cells[0], 6)
    assert finished.state(cells[0]) == "done"


def test_the_leaderboard_tells_means_differences_and_rows(
    finished: Bench, cells: list[Cell], suite_file: Callable[..., Path]
) -> None:
    published = (
        "published: [{method: MVAE, metric: joint_coherence, value: 0.3819, source: recalled}]"
    )
    told = load_suite(suite_file(f"{SUITE}{published}")).told
    write_leaderboard(finished, told, cells)
    mld, paper = lines_of(finished, cells)
    assert mld.figure("joint_coherence").value == pytest.approx(0.85)
    assert paper.less(mld, "joint_coherence").value == pytest.approx(-0.25)
    text = (finished.path / "leaderboard.md").read_text()
    assert "| mld | 0.850 (± 0.071) |" in text
    assert "| paper − mld | −0.250 (−0.885 to +0.385)" in text
    assert "| MVAE, published | 0.382 (recalled) |" in text
    rows = list(csv.DictReader(finished.results.read_text().splitlines()))
    assert [(row["method"], row["seed"], row["joint_coherence"]) for row in rows] == [
        ("mld", "0", "0.8"),
        ("mld", "1", "0.9"),
        ("paper", "0", "0.5"),
        ("paper", "1", "0.7"),
    ]


def test_bold_is_only_what_leads_beyond_doubt(finished: Bench, cells: list[Cell]) -> None:
    told = load_suite_of(finished)
    write_leaderboard(finished, told, cells)
    assert "**0.850**" not in (finished.path / "leaderboard.md").read_text()  # two seeds: too wide
    for cell in cells:
        run_dir = finished.run_dir(cell)
        scores = run_dir.read_json(run_dir.metrics)
        scores["joint_coherence"]["value"] += 0.001 * cell.at.seed
        value = 0.9 if cell.at.method == "mld" else 0.5
        scores["joint_coherence"]["value"] = value + 0.001 * cell.at.seed
        run_dir.write_json(run_dir.metrics, scores)
    write_leaderboard(finished, told, cells)
    text = (finished.path / "leaderboard.md").read_text()
    assert "| mld | **0.900** (" in text or "| mld | **0.901** (" in text


def test_a_network_trained_in_several_attempts_has_no_time(
    finished: Bench, cells: list[Cell]
) -> None:
    mld = lines_of(finished, cells)[0]
    assert mld.figure("training_seconds").value == 12.5
    for cell in cells:
        for _ in range(1 + cell.at.seed):
            with finished.run_dir(cell).stage("diffuse"):
                pass
    seconds = {
        seed: row["training_seconds"] for seed, row in lines_of(finished, cells)[0].rows.items()
    }
    assert seconds == {0: 12.5, 1: None}


def test_one_seed_after_another_leaves_both_in_the_leaderboard(
    suite_file: Callable[..., Path], finish: Callable[..., None], tmp_path: Path
) -> None:
    path, bench = suite_file(), Bench(tmp_path / "out")
    for seed in ("0", "1"):
        for cell in make_cells(load_suite(path, seeds=[int(seed)]), Registry()):
            finish(bench, cell, COHERENCE[cell.at.method, cell.at.seed])
        told = CliRunner().invoke(
            app, ["bench", str(path), "--out", str(bench.path), "--seed", seed]
        )
        assert told.exit_code == 0, told.output
        assert "started" not in told.stderr
    assert bench.seeds() == [1, 0]
    assert len(bench.results.read_text().splitlines()) == 5
    shown = CliRunner().invoke(
        app, ["bench", str(path), "--out", str(bench.path), "--seed", "2", "--dry-run"]
    )
    assert "2 cells: 0 done, 0 failed, 2 open" in shown.stdout


def load_suite_of(bench: Bench) -> Any:
    return load_suite(bench.path.parent / "suite.yaml").told


def test_two_suites_are_compared_cell_by_cell(
    finished: Bench, cells: list[Cell], finish: Callable[..., None], tmp_path: Path
) -> None:
    other = Bench(tmp_path / "other")
    other.freeze(cells)
    for cell in cells:
        finish(other, cell, COHERENCE[cell.at.method, cell.at.seed] + 0.05)
    found = compare(finished, other)
    assert [row["variant"] for row in found] == ["mld", "paper"]
    assert found[0]["joint_coherence"]["value"] == pytest.approx(0.05)
    with pytest.raises(RunDirError, match="holds no suite"):
        compare(finished, Bench(tmp_path / "nothing"))
    told = CliRunner().invoke(
        app, ["bench", "compare", str(finished.path), str(other.path), "--json"]
    )
    assert json.loads(told.stdout)[0]["joint_coherence"]["n"] == 2


def test_the_command_lists_cells_and_shards_them(suite_file: Callable[..., Path]) -> None:
    path = str(suite_file())
    shown = {}
    for shard in ("", "1/2", "2/2"):
        told = CliRunner().invoke(app, ["bench", path, "--dry-run", "--shard", shard])
        assert told.exit_code == 0, told.output
        shown[shard] = {line.split()[0] for line in told.stdout.splitlines()[:-1]}
    assert len(shown[""]) == 4
    assert shown["1/2"] | shown["2/2"] == shown[""]
    assert not shown["1/2"] & shown["2/2"]
    same = CliRunner().invoke(app, ["bench", path, "--dry-run", "--shard", "01/02"])
    assert {line.split()[0] for line in same.stdout.splitlines()[:-1]} == shown["1/2"]
    wrong = CliRunner().invoke(app, ["bench", path, "--shard", "3/2"])
    assert wrong.exit_code == 2
    assert CliRunner().invoke(app, ["bench", "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("visible", "accelerator", "slots"),
    [
        ("0,1", "auto", 2),
        ("0,-1,1", "auto", 1),
        ("-1", "auto", 4),
        ("", "auto", 4),
        ("0", "cpu", 4),
    ],
)
def test_as_many_cells_run_at_once_as_there_are_gpus_for_them(
    suite_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    accelerator: str,
    slots: int,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    path = suite_file(f"{SUITE}set: {{compute.accelerator: {accelerator}}}")
    words = ["bench", str(path), "--out", str(tmp_path), "--jobs", "4", "--dry-run"]
    told = CliRunner().invoke(app, words)
    assert f", {slots} at once: " in told.stdout


def command(path: Path, out: Path) -> list[str]:
    start = [sys.executable, "-c", "from mld.app import main; main()"]
    return [*start, "bench", str(path), "--out", str(out), "--jobs", "2"]


@pytest.mark.slow
def test_a_killed_suite_goes_on_and_runs_no_cell_twice(
    suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = suite_file(), tmp_path / "out"
    environment = {**os.environ, "MLD_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    suite = subprocess.Popen(command(path, out), env=environment, stderr=subprocess.DEVNULL)
    while not list(out.glob("cells/*/stages/autoencode.json")):
        assert suite.poll() is None
        time.sleep(0.05)
    suite.send_signal(signal.SIGKILL)
    suite.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/stages/report.json")}
    again = subprocess.run(
        command(path, out), env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert len(list(out.glob("cells/*/stages/report.json"))) == 4
    assert all(path.stat().st_mtime_ns == told for path, told in done.items())
    assert len((out / "leaderboard.csv").read_text().splitlines()) == 5
    third = subprocess.run(command(path, out), env=environment, capture_output=True, text=True)
    assert "started" not in third.stderr


@pytest.mark.slow
def test_what_is_wrong_with_one_cell_leaves_the_others_alone(
    suite_file: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [f"{split},{n}.png,word {n}" for split in ("train", "validation", "test") for n in "123"]
    for n in "123":
        Image.new("L", (16, 16), int(n)).save(tmp_path / f"{n}.png")
    good = "\n".join(["split,a,b", *rows, ""])
    (tmp_path / "torn.png").write_bytes((tmp_path / "1.png").read_bytes()[:-40])
    changes = {"good": "1.png", "torn": "torn.png", "unpaired": "4.png"}
    for name, picture in changes.items():
        (tmp_path / f"{name}.csv").write_text(good.replace("test,1.png", f"test,{picture}"))
    base = BASE.replace("{kind: examples, train: 60, validation: 20, test: 20}", "{}")
    base = base.replace("a: {kind: text, latent_dim: 4, max_bytes: 32}", IMAGE)
    base = base.replace("data: {}", f"data: {{kind: manifest, path: {tmp_path}/good.csv}}")
    methods = [f"{name}: {{data.path: {tmp_path}/{name}.csv}}" for name in [*changes, "gone"]]
    methods = ["nope: {diffuse: {method: nope}}", *methods]
    head = "name: small\nspec: base.yaml\nmodalities: [[a, b], [a, d]]\nmethods:\n"
    text = f"{head}{indent(chr(10).join(methods), '  ')}\n"
    environment = {**os.environ, "MLD_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    suite = command(suite_file(text, base), tmp_path / "out")
    told = subprocess.run(suite, env=environment, capture_output=True, text=True)
    assert told.returncode == 8
    for line in (
        "done     a+b, good, seed 0",
        "failed: a+b, nope, seed 0: suite.yaml:5: diffuse.method: no plugin of kind 'nope'",
        "failed: a+b, torn, seed 0: 1 item of the test split cannot be used: row 'torn.csv:8'",
        "failed: a+b, unpaired, seed 0: unpaired.csv:8: column 'a': 4.png cannot be read",
        "failed: a+b, gone, seed 0: gone.csv: cannot be read",
        "failed: a+d, nope, seed 0 and 4 more: suite.yaml:3: modalities[1][1]: no modality 'd'",
    ):
        assert line in told.stderr.replace(f"{tmp_path}/", "")
    assert len((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()) == 2


@pytest.mark.slow
def test_cells_run_on_a_ray_cluster(
    suite_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mld-toolkit[ray]'")
    monkeypatch.setenv("MLD_STORE", str(tmp_path / "store"))
    script = (
        "import ray, sys\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "from mld.app import main\n"
        f"sys.argv = ['mld', 'bench', {str(suite_file())!r}, '--out', {str(tmp_path / 'out')!r},"
        " '--executor', 'ray', '--jobs', '2']\n"
        "main()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr
    assert len(list((tmp_path / "out").glob("cells/*/stages/report.json"))) == 4


def test_ray_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match=r"pip install 'mld-toolkit\[ray\]'"):
        RayExecutor(1, 1, True)


def test_a_worker_that_ray_has_lost_fails_its_cell_alone(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Exception):
        pass

    def get(reference: str) -> int:
        if reference.endswith(f"{cells[0].key}.yaml"):
            raise Lost("the worker died\nno more is known")
        return 5

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=dict,
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda words, *_: words[1]),
        wait=lambda references, timeout: (references, []),
        get=get,
        exceptions=SimpleNamespace(RayError=Lost),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    bench = Bench(tmp_path / "out")
    bench.freeze(cells)
    run_cells(bench, cells, RayExecutor(2, 1, True), 1)
    told = "Ray has lost the run: the worker died (exit code 130)"
    assert [bench.failure(cell) == told for cell in cells] == [True, False, False, False]


def test_a_running_cell_tells_its_stage(cells: list[Cell], tmp_path: Path) -> None:
    bench = Bench(tmp_path / "out")
    course = Course(bench, cells, Forecast(bench, cells), [])
    assert course.stage(cells[0]) == "starts"
    with bench.run_dir(cells[0]).stage("diffuse"):
        assert course.stage(cells[0]) == "diffuse"
