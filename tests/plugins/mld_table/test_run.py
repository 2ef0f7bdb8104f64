"""A run whose modalities are all numbers and categories, from a table to a filled table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import mld
from mld.config.spec import Spec, load_spec
from mld.pipeline.plan import plan
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import DataError, Registry

SPEC = """
name: table
data: {{kind: manifest, path: rows.{suffix}}}
modalities:
  group: {{kind: category, unknown: other}}
  flag: {{kind: category, values: ["false", "true"]}}
  mass: {{kind: number, log: true, scale: quantile, unit: g}}
  place: {{kind: number, size: 2}}
diffuse: {{network: {{kind: residual-mlp, width: 16, depth: 1}}, steps: 4, batch_size: 16}}
generate: {{num_samples: 4, num_previews: 1, steps: 2, subsets: [[], [group, mass]]}}
evaluate: {{judge: classes}}
compute: {{threads: 1}}
"""
REGISTRY = Registry()


def write_table(folder: Path, suffix: str) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        {
            "group": None if row % 5 == 0 else "abc"[row % 3],
            "flag": bool(row % 2),
            "mass": None if row % 7 == 0 else round(rng.lognormal(), 3),
            "place": f"{rng.normal():.3f} {rng.normal():.3f}",
            "split": ("train", "train", "train", "validation", "test")[row // 8],
        }
        for row in range(40)
    ]
    path = folder / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        cells = [["" if c is None else str(c).lower() for c in row.values()] for row in rows]
        path.write_text("\n".join(map(",".join, [list(rows[0]), *cells])))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def small_spec(folder: Path, suffix: str) -> Spec:
    write_table(folder, suffix)
    (folder / "table.yaml").write_text(SPEC.format(suffix=suffix))
    return load_spec(folder / "table.yaml", REGISTRY)


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, and its finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("table")
    spec = small_spec(folder, "jsonl")
    run(spec, RunDir(folder / "run"), REGISTRY, store=WeightStore(folder / "store"))
    return folder


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_without_networks_to_train_but_one(tmp_path: Path, suffix: str) -> None:
    spec = small_spec(tmp_path, suffix)
    assert [job.name for job in plan(spec, REGISTRY).jobs] == ["diffuse"]
    run_dir = RunDir(tmp_path / "run")
    report = run(spec, run_dir, REGISTRY, store=WeightStore(tmp_path / "store"))
    trained = {event["job"] for event in run_dir.read_events() if event["event"] == "train"}
    assert trained == {"diffuse"}
    metrics = json.loads(run_dir.metrics.read_text())["modalities"]
    assert metrics["flag"]["metrics"]["error_rate"]["value"] == 0
    assert metrics["mass"]["metrics"]["mae"]["unit"] == "g"
    assert report.is_file()
    scores = json.loads(run_dir.metrics.read_text())
    compared = scores["conditional_metrics"]
    assert {row["target"] for row in compared} == {"flag", "place"}
    of = {(row["target"], row["metric"]): row["of"] for row in compared}
    assert of["place", "mae"] == "best estimate of 19 draws"
    assert of["place", "crps"] == of["place", "coverage_80"] == of["flag", "log_loss"] == "19 draws"
    assert scores["draws"] == 19
    assert scores["plots"] == {"flag": ["group", "mass"]}  # `place` holds two numbers
    assert run_dir.plot("flag").is_file()
    assert "<b>flag</b> given group, mass</figcaption>" in report.read_text()

    finished = mld.load(run_dir.path)
    assert [m.latent_dim for m in finished.modalities.values()] == [3, 1, 1, 2]
    samples = finished.sample({"mass": 1.5, "flag": True, "group": "z"}, n=2)
    assert {len(cell.split()) for cell in samples.cells("place")} == {2}
    filled = mld.impute(finished, tmp_path / f"rows.{suffix}", tmp_path / "filled", n=9)
    rows = read_rows(filled)
    assert len(rows) == 40
    if suffix == "jsonl":  # numbers stay numbers
        assert {type(row["mass"]) for row in rows} == {float}
    estimates = read_rows(filled.with_name("estimates.csv"))
    assert {each["modality"] for each in estimates} == {"group", "mass"}
    for each in estimates:
        if each["modality"] == "mass":
            assert float(each["p10"]) <= float(each["median"]) <= float(each["p90"])
            assert float(each["estimate"]) == float(each["median"])
            assert max(len(each[name].strip("-0.").split("e")[0]) for name in ("mean", "std")) <= 8
        else:
            assert float(each["probability"]) == float(each[f"p({each['estimate']})"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_numbers_of_new_columns_are_numbers_of_json(
    table_run: Path, tmp_path: Path, suffix: str
) -> None:
    """As is the first number of a column whose cells are all empty; a category stays a text."""
    finished = mld.load(table_run / "run")
    path = tmp_path / f"some.{suffix}"
    rows = [{"group": "a", "mass": None}, {"group": "b", "mass": None}]
    if suffix == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        path.write_text("group,mass\na,\nb,\n")
    filled = mld.impute(finished, path, tmp_path / "empty", n=2, held_out=0)
    for row in read_rows(filled):
        assert isinstance(row["mass"], float if suffix == "jsonl" else str)
    path.write_text('{"group": "a"}\n' if suffix == "jsonl" else "group\na\n")
    want = ["flag", "mass", "place"]
    filled = mld.impute(finished, path, tmp_path / "added", n=2, held_out=0, want=want)
    (row,) = read_rows(filled)
    assert isinstance(row["mass"], float if suffix == "jsonl" else str)
    assert row["flag"] in ("false", "true")
    assert len(row["place"].split()) == 2
    table = mld.sample_table(finished, path, tmp_path / f"samples.{suffix}", want)
    (row,) = read_rows(table)
    assert isinstance(row["mass"], float if suffix == "jsonl" else str)
    assert row["flag"] in ("false", "true")


def test_a_data_frame_is_filled_like_its_manifest(table_run: Path) -> None:
    pandas = pytest.importorskip("pandas")
    finished = mld.load(table_run / "run")
    rows = read_rows(table_run / "rows.jsonl")
    frame = pandas.DataFrame([{**row, "place": row["place"] or None} for row in rows])
    frame["note"] = pandas.Timestamp("2020-01-01")
    filled, estimates = mld.impute_frame(finished, frame, n=9, held_out=0)
    assert bool(frame["mass"].isna().any())
    assert not bool(filled[["group", "flag", "mass", "place"]].isna().any(axis=None))
    assert filled["mass"].dtype == float
    added, _ = mld.impute_frame(finished, frame[["group"]], n=2, held_out=0, want=["mass"])
    assert added["mass"].dtype == float
    recorded = frame["mass"].notna()
    assert bool((filled["mass"][recorded] == frame["mass"][recorded]).all())
    assert len(estimates) == int(frame[["group", "mass"]].isna().sum().sum())
    by_cell = {(each.id, each.modality): each.estimate for each in estimates.itertuples()}
    for row in frame.index[frame["mass"].isna()]:
        assert filled["mass"][row] == pytest.approx(float(by_cell[str(row), "mass"]))
    scores = mld.score(finished, mld.read_frame(finished, frame))
    assert {score.id for score in scores} == {str(row) for row in frame.index}
    with_na = mld.read_frame(finished, frame.convert_dtypes())
    assert bool((with_na.present == mld.read_frame(finished, frame).present).all())
    frame.loc[3, "place"] = "far away"
    with pytest.raises(DataError, match="row '3', modality 'place': 'far away'"):
        mld.read_frame(finished, frame)


def test_the_first_of_several_draws_is_a_single_sample(tmp_path: Path) -> None:
    small_spec(tmp_path, "csv")
    store = WeightStore(tmp_path / "store")
    drawn, scores = {}, {}
    for draws in ("1", "3"):
        spec = load_spec(tmp_path / "table.yaml", REGISTRY, [f"generate.draws={draws}"])
        assert plan(spec, REGISTRY).draws == int(draws)
        run_dir = RunDir(tmp_path / draws)
        run(spec, run_dir, REGISTRY, store=store)
        drawn[draws] = run_dir.samples("group+mass")
        scores[draws] = run_dir.read_json(run_dir.metrics)
        assert not (run_dir.samples("joint") / "draws.safetensors").exists()
    single, several = (drawn[draws] / "latents.safetensors" for draws in ("1", "3"))
    assert single.read_bytes() == several.read_bytes()
    assert not (drawn["1"] / "draws.safetensors").exists()
    first, draws = load_file(several), load_file(drawn["3"] / "draws.safetensors")
    for name, z in draws.items():
        assert z.shape[1] == 3
        assert (z[:, 0] == first[name]).all()
        assert len(z.unique(dim=1)[0]) == 3
    assert scores["1"]["frechet"] == scores["3"]["frechet"]
    assert {row["of"] for row in scores["1"]["conditional_metrics"]} == {"one sample"}
    place = {row["metric"]: row["value"] for row in scores["3"]["conditional_metrics"]}
    assert place["crps"] is not None
    assert place["coverage_80"] is None  # three draws have no interval of 80 %


def test_csv_and_jsonl_hold_the_same_items(tmp_path: Path) -> None:
    from mld.data.loading import Data, fit_modalities, open_dataset

    items = []
    for suffix in ("csv", "jsonl"):
        dataset = open_dataset(small_spec(tmp_path, suffix), REGISTRY)
        modalities = fit_modalities(load_spec(tmp_path / "table.yaml", REGISTRY), dataset, REGISTRY)
        rows = Data(dataset, modalities).train.items
        items.append({name: x[:] for name, x in rows.items()})
    assert all((items[0][name] == items[1][name]).all() for name in items[0])


def test_the_width_of_a_latent_may_depend_on_rows_that_a_plan_does_not_read(tmp_path: Path) -> None:
    lines = ["group,mass", *(f"g{row % 90},{row + 1}" for row in range(300))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    for latent_dim, is_exact in ((32, True), (80, False)):
        (tmp_path / "wide.yaml").write_text(
            "name: wide\ndata: {kind: manifest, path: rows.csv}\nmodalities:\n"
            f"  group: {{kind: category, latent_dim: {latent_dim}}}\n  mass: {{kind: number}}\n"
        )
        diffuse, match = plan(load_spec(tmp_path / "wide.yaml", REGISTRY), REGISTRY).jobs
        assert diffuse.is_exact == is_exact
        assert match.name == "match"
