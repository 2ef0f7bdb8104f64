from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from mld.inference.manifest import read_manifest
from mld.inference.score import RowEstimate, RowScore, _with_suspects, score
from mld.inference.trained_run import TrainedRun, load
from mld_core import Registry, SpecError

WriteManifest = Callable[..., Path]


def test_mispaired_rows_come_first(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    scores = score(trained_run, write_manifest(tmp_path / "m", mispaired=4))
    first, last = scores[:4], scores[-1]
    assert {row.id for row in first} == {"r0", "r1", "r2", "r3"}
    totals = [row.pointwise_total_correlation for row in first]
    assert all(total is not None and total.value < 0 for total in totals)
    pmi = scores[0].pairwise_pmi
    assert pmi["left", "right"].value < 0 < pmi["left", "third"].value
    assert last.pointwise_total_correlation is not None
    assert last.pointwise_total_correlation.value > 1
    assert all(
        row.mean_pairwise_pmi is not None and row.mean_pairwise_pmi.value < 0 for row in first
    )
    assert all(pmi.standard_error > 0 for row in scores for pmi in row.pairwise_pmi.values())
    assert {row.suspect for row in first} == {"right"}


def test_of_two_modalities_the_unusual_one_is_suspect() -> None:
    def scored(row: int, left: float, right: float) -> RowScore:
        density = {"left": RowEstimate(left, 0.1), "right": RowEstimate(right, 0.1)}
        pmi = {("left", "right"): RowEstimate(-1.0, 0.1)}
        return RowScore(f"r{row}", "", row, None, RowEstimate(-1.0, 0.1), pmi, density)

    rows = [scored(0, -20.0, 1.0), scored(1, 4.0, -3.0), *(scored(k, 5.0, k) for k in (2, 3))]
    alone = RowScore("r4", "", 4, None, None, {}, {"left": RowEstimate(-30.0, 0.1)})
    suspects = {row.id: row.suspect for row in _with_suspects([*rows, alone])}
    assert (suspects["r0"], suspects["r1"], suspects["r4"]) == ("left", "right", "")


@pytest.mark.slow
@pytest.mark.long
def test_incomplete_rows_are_scored_by_what_they_have(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    """And a row's score does not depend on the rows beside it."""
    path = write_manifest(tmp_path / "m", missing=True)
    scores = {row.id: row for row in score(trained_run, path)}
    assert "r0" not in scores
    rows = read_manifest(trained_run, path)
    for index, row_id in enumerate(rows.ids):
        if row_id in scores:
            assert len(scores[row_id].log_density) == int(rows.present[index].sum())
    single = next(row for row in scores.values() if len(row.log_density) == 1)
    assert single.pointwise_total_correlation is None
    assert not single.pairwise_pmi
    lines = path.read_text().splitlines()
    one_row = path.with_name("one_row.csv")
    one_row.write_text("\n".join([lines[0], lines[8]]) + "\n")
    (alone,) = score(trained_run, one_row)
    expected = scores[alone.id].pointwise_total_correlation
    assert alone.pointwise_total_correlation == pytest.approx(expected, abs=1e-3)


@pytest.mark.usefixtures("few_noise_levels")
def test_score_command_writes_a_table_and_a_page(
    mld: Callable[..., Result], finished_run: Path, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", mispaired=2)
    result = mld("score", finished_run, path, "--out", "s.csv")
    assert result.exit_code == 0, result.output
    assert "nats  r" in result.stdout.splitlines()[0]
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert {rows[0]["id"], rows[1]["id"]} == {"r0", "r1"}
    ranked = [float(row["mean_pairwise_pmi"]) for row in rows]
    assert ranked == sorted(ranked)
    pairs = [float(rows[0][f"pmi:{pair}"]) for pair in ("left+right", "left+third", "right+third")]
    assert ranked[0] == pytest.approx(sum(pairs) / 3, abs=1e-3)
    assert "Suspicious rows" in Path("s.html").read_text()
    as_json = mld("score", finished_run, path, "--out", "s.jsonl", "--json")
    assert [row["id"] for row in json.loads(as_json.stdout)] == [row["id"] for row in rows]
    assert json.loads(Path("s.jsonl").read_text().splitlines()[0])["id"] == rows[0]["id"]


@pytest.mark.usefixtures("few_noise_levels")
def test_score_columns(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    (row, *_) = score(trained_run, write_manifest(tmp_path / "m", mispaired=1))
    names = ["total_correlation", "mean_pairwise_pmi"]
    names += ["pmi:left+right", "pmi:left+third", "pmi:right+third"]
    names += ["log_density:left", "log_density:right", "log_density:third"]
    errors = [
        f"{statistic}_se{colon}{of}"
        for statistic, colon, of in (name.partition(":") for name in names)
    ]
    columns = [column for pair in zip(names, errors, strict=True) for column in pair]
    assert list(row.record()) == ["id", "label", "suspect", *columns]
    assert row.record()["log_density:left"] == round(row.log_density["left"].value, 4)


def test_a_run_without_marginals_cannot_score(
    train_run: Callable[..., Path],
    registry: Registry,
    mld: Callable[..., Result],
    write_manifest: WriteManifest,
    tmp_path: Path,
) -> None:
    (tmp_path / "paper").mkdir()
    steps = [f"{section}.steps=20" for section in ("autoencode", "diffuse", "evaluate")]
    overrides = ["diffuse.roles=paper", "generate.guidance=0", *steps]
    folder = train_run(tmp_path / "paper", *overrides)
    path = write_manifest(tmp_path / "m", missing=True)
    for words in (("score", folder, path), ("information", folder)):
        result = mld(*words)
        assert result.exit_code == 3, result.output
        assert "has no marginals" in result.stderr
        assert "roles: three-role" in result.stderr
        assert result.stderr.count("\n") == 1
    guided = mld("impute", folder, path, "--out", "out", "--guidance", "1")
    assert guided.exit_code == 3, guided.output
    assert "which guidance requires: set guidance to 0" in guided.stderr
    filled = mld("impute", folder, path, "--out", "out")
    assert filled.exit_code == 0, filled.output
    with pytest.raises(SpecError, match="no marginals"):
        score(load(folder, registry), path)


@pytest.mark.usefixtures("few_noise_levels")
def test_scores_replace_nothing_but_scores(
    mld: Callable[..., Result], finished_run: Path, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m")
    before = path.read_bytes()
    page, notes = tmp_path / "notes.html", tmp_path / "mine.csv"
    page.write_text("my own page")
    notes.write_text("id,notes")
    (tmp_path / "folder.csv").mkdir()
    for out, message in [
        (path, "is what the command reads"),
        (notes, "mine.csv exists and is not overwritten"),
        ("notes.csv", "notes.html exists and is not overwritten"),
        ("mine.csv/scores.csv", "cannot be written: mine.csv is not a folder"),
        ("folder.csv", "Is a directory"),
    ]:
        result = mld("score", finished_run, path, "--out", out)
        assert result.exit_code == 6, result.output
        assert message in result.stderr
        assert "Traceback" not in result.output
    assert path.read_bytes() == before
    assert (page.read_text(), notes.read_text()) == ("my own page", "id,notes")
    for name, seed in (("scores.csv", 0), ("scores.csv", 1), ("scores.jsonl", 0)):
        result = mld("score", finished_run, path, "--out", name, "--seed", seed)
        assert result.exit_code == 0, result.output


def test_only_work_that_is_kept_says_how_to_resume(
    mld: Callable[..., Result],
    finished_run: Path,
    write_manifest: WriteManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    for command, work, message in [
        (("score", finished_run, path), "score.surprisal", "interrupted"),
        (("information", finished_run), "information.surprisal", "interrupted"),
        (
            ("impute", finished_run, path, "--out", "out"),
            "impute._Imputer._fill_batch",
            "interrupted; re-run the same command to resume",
        ),
    ]:
        monkeypatch.setattr(f"mld.inference.{work}", interrupted)
        result = mld(*command)
        assert result.exit_code == 130
        assert result.stderr.splitlines()[-1] == message
