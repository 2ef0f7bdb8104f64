"""What a finished run knows: scores, filled cells, information; over three tiny modalities."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from mld.app import app
from mld.config.spec import load_spec
from mld.inference.impute import Imputer, read_filled
from mld.inference.trained_run import Run, load
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import DataError, Registry, RunDirError, SpecError
from mld_core.information.likelihood import log_scale

PLUGINS = Path(__file__).parent / "plugins"
NAMES = ("left", "right", "third")


@pytest.fixture(scope="module")
def small_run() -> Any:
    sys.path.insert(0, str(PLUGINS))
    import small_run

    yield small_run
    sys.path.remove(str(PLUGINS))


@pytest.fixture(scope="module")
def registry(small_run: Any) -> Registry:
    return small_run.registry()


def trained(small_run: Any, registry: Registry, folder: Path, *overrides: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_STORE", str(folder / "store"))
        (folder / "small.yaml").write_text(small_run.SPEC)
        spec = load_spec(folder / "small.yaml", registry, ["generate.num_samples=5", *overrides])
        run(spec, RunDir(folder / "small"), registry)
    return folder / "small"


@pytest.fixture(scope="module")
def done(small_run: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    return trained(small_run, registry, tmp_path_factory.mktemp("done"))


@pytest.fixture(scope="module")
def loaded(done: Path, registry: Registry) -> Run:
    return load(done, registry)


def numbers(label: int, seed: int) -> str:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([4.0 * ((label >> bit) & 1) for bit in range(4)] + [label, 0.0])
    return " ".join(f"{v:.4f}" for v in centre + 0.2 * torch.randn(6, generator=generator))


def manifest(folder: Path, gaps: bool = False, wrong: int = 0, name: str = "rows.csv") -> Path:
    """Forty rows; the first `wrong` have another label's `right`; with gaps, cells are missing."""
    (folder / "deep").mkdir(parents=True)
    rows = []
    for row in range(40):
        label = row % 10
        (folder / "deep" / f"{row}.txt").write_text(numbers(label, row))
        (folder / f"{row}.txt").write_text(numbers(label, 100 + row))
        other = (label + 3) % 10 if row < wrong else label
        cells = [f"deep/{row}.txt", numbers(other, 200 + row), f"{row}.txt"]
        if gaps and row % 4 < 3:
            cells[row % 4] = ""
            cells[(row + row // 4) % 3] = ""
        if gaps and row == 0:
            cells = ["", "", ""]
        rows.append(
            dict(zip(("id", *NAMES, "label"), (f"r{row}", *cells, str(label)), strict=True))
        )
    path = folder / name
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        told = [{key: cell for key, cell in row.items() if cell} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in told))
    return path


@pytest.fixture
def mld(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line in an empty folder, where the small modalities are installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mld_core.plugins.registry.Registry", lambda **_: registry)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_rows_that_do_not_belong_together_come_first(loaded: Run, tmp_path: Path) -> None:
    scores = loaded.score(manifest(tmp_path / "m", wrong=4))
    assert {own.id for own in scores[:4]} == {"r0", "r1", "r2", "r3"}
    assert all(own.overall is not None and own.overall[0] < 0 for own in scores[:4])
    assert scores[0].pairs["left", "right"][0] < 0 < scores[0].pairs["left", "third"][0]
    assert scores[-1].overall is not None
    assert scores[-1].overall[0] > 1
    assert all(
        own.mean_pairwise_pmi is not None and own.mean_pairwise_pmi[0] < 0 for own in scores[:4]
    )
    assert all(error > 0 for own in scores for _, error in own.pairs.values())


def test_rows_with_gaps_are_scored_by_what_they_have(loaded: Run, tmp_path: Path) -> None:
    """And a row's score does not depend on the rows beside it."""
    path = manifest(tmp_path / "m", gaps=True)
    scores = {own.id: own for own in loaded.score(path)}
    assert "r0" not in scores
    manifest_rows = loaded.manifest_rows(path)
    for place, own in enumerate(manifest_rows.ids):
        if own in scores:
            assert len(scores[own].typicality) == int(manifest_rows.present[place].sum())
    single = next(own for own in scores.values() if len(own.typicality) == 1)
    assert single.overall is None
    assert not single.pairs
    lines = path.read_text().splitlines()
    alone = path.with_name("alone.csv")
    alone.write_text("\n".join([lines[0], lines[8]]) + "\n")
    (one,) = loaded.score(alone)
    assert one.overall == pytest.approx(scores[one.id].overall, abs=1e-3)


def test_score_writes_a_table_and_a_page(mld: Any, done: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path / "m", wrong=2)
    told: Result = mld("score", done, path, "--out", "s.csv")
    assert told.exit_code == 0, told.output
    assert "nats  r" in told.stdout.splitlines()[0]
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert {rows[0]["id"], rows[1]["id"]} == {"r0", "r1"}
    ranked = [float(row["by pair"]) for row in rows]
    assert ranked == sorted(ranked)
    pairs = [float(rows[0][pair]) for pair in ("left+right", "left+third", "right+third")]
    assert ranked[0] == pytest.approx(sum(pairs) / 3, abs=1e-3)
    assert "Suspicious rows" in Path("s.html").read_text()
    as_json = mld("score", done, path, "--out", "s.jsonl", "--json")
    assert [row["id"] for row in json.loads(as_json.stdout)] == [row["id"] for row in rows]
    assert json.loads(Path("s.jsonl").read_text().splitlines()[0])["id"] == rows[0]["id"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_imputing_fills_every_gap_and_keeps_what_was_given(
    loaded: Run, registry: Registry, tmp_path: Path, name: str
) -> None:
    path = manifest(tmp_path / "m", gaps=True, name=name)
    filled = loaded.impute(path, tmp_path / "out", 3)
    before, after = loaded.manifest_rows(path), loaded.manifest_rows(filled)
    assert after.ids == before.ids
    assert bool(after.present.all())
    for old, new in zip(before.cells, after.cells, strict=True):
        for column, cell in old.items():
            assert not cell or new[column] == cell
            if cell and column in ("left", "third"):
                assert (filled.parent / cell).read_bytes() == (path.parent / cell).read_bytes()
    assert set(after.columns) == set(before.columns)
    told = read_filled(tmp_path / "out")
    assert len(told) == int((~before.present).sum())
    assert all(len(own["alternatives"]) == 3 for own in told)
    assert all(0 <= own[f"{word}_agreement"] <= 1 for own in told for word in ("class", "latent"))
    assert {own["id"] for own in told if own["joint"]} == {"r0"}
    classifier = loaded._classifiers()["right"]
    made = [row for row in range(1, 40) if not before.present[row, 1]]
    shown = classifier(after.items["right"][made]).argmax(1)
    assert float((shown == torch.tensor([row % 10 for row in made])).double().mean()) > 0.8


def test_a_stopped_imputation_goes_on(
    loaded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest(tmp_path / "m", gaps=True)
    whole = loaded.impute(path, tmp_path / "whole", 2)
    batch, calls = Imputer._batch, []

    def stopping(self: Imputer, *args: Any) -> Any:
        calls.append(args[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return batch(self, *args)

    monkeypatch.setattr(Imputer, "_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        loaded.impute(path, tmp_path / "out", 2)
    stopped = [row for part in calls[:2] for row in part]
    assert not (tmp_path / "out" / "rows.csv").exists()
    again = loaded.impute(path, tmp_path / "out", 2)
    assert not set(stopped) & {row for part in calls[3:] for row in part}
    assert again.read_bytes() == whole.read_bytes()
    calls.clear()
    loaded.impute(path, tmp_path / "out", 2)
    assert not calls
    with pytest.raises(RunDirError, match="another manifest, run or setting"):
        loaded.impute(path, tmp_path / "out", 3)
    with pytest.raises(RunDirError, match="not empty"):
        loaded.impute(path, tmp_path / "m" / "deep")
    with pytest.raises(DataError, match="own folder"):
        loaded.impute(path, tmp_path / "m")


def test_impute_writes_a_manifest_and_a_page(mld: Any, done: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path / "m", gaps=True)
    told: Result = mld("impute", done, path, "--out", "filled", "-n", "2")
    assert told.exit_code == 0, told.output
    assert told.stdout.strip() == "filled/rows.csv"
    assert "1 rows generated jointly" in told.stderr
    page = Path("filled/report.html").read_text()
    assert "nothing given: generated jointly" in page
    assert "latent agreement" in page
    again = mld("impute", done, path, "--out", "filled", "-n", "2", "--json")
    assert json.loads(again.stdout)["manifest"] == "filled/rows.csv"


def test_a_path_that_leaves_the_folder_still_leads_to_its_file(loaded: Run, tmp_path: Path) -> None:
    path = manifest(tmp_path / "m")
    (tmp_path / "m" / "deep" / "list.csv").write_text("left,third\n../3.txt,\n")
    filled = loaded.impute(tmp_path / "m" / "deep" / "list.csv", tmp_path / "out")
    left = filled.read_text().splitlines()[1].split(",")[0]
    assert Path(left) == path.parent / "3.txt"
    assert bool(loaded.manifest_rows(filled).present.all())


def test_log_densities_by_the_flow_and_by_errors(loaded: Run, tmp_path: Path) -> None:
    """Of any modalities, given any others; the errors are those that scores are made of."""
    path = manifest(tmp_path / "m", gaps=True)
    manifest_rows, scores = loaded.manifest_rows(path), loaded.score(path, seed=3)
    errors = loaded.log_density(path, ["left"], by="errors", seed=3)
    has = manifest_rows.present[:, 0]
    assert torch.equal(errors.standardised.isfinite(), has)
    told = torch.full((40,), torch.nan)
    for own in scores:
        if "left" in own.typicality:
            told[own.place] = own.typicality["left"][0]
    torch.testing.assert_close(errors.standardised[has], told[has], atol=1e-3, rtol=1e-3)
    flow = loaded.log_density(path, ["right"], ["left"])
    errors = loaded.log_density(path, ["right"], ["left"], by="errors")
    known = manifest_rows.present[:, :2].all(1)
    assert torch.equal(flow.raw.isfinite(), known)
    off = (errors.raw - flow.raw)[known].abs()
    assert float(off.median()) < 3 * float(errors.standard_error[known].mean())
    right = log_scale(loaded.model, ["right"])
    torch.testing.assert_close(flow.raw[known], flow.standardised[known] - right)
    for of, given in ((["right"], ["right"]), (["middle"], []), ([], ["left"])):
        with pytest.raises(SpecError, match=r"not given|no latents of middle"):
            loaded.log_density(path, of, given)


def test_information_is_told_with_its_error(mld: Any, done: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "small"))
    told: Result = mld("information", folder, "--of", "left,right;third")
    assert told.exit_code == 0, told.output
    assert "I(left, right; third)" in told.stdout
    kept = json.loads((folder / "information.json").read_text())["estimates"]
    assert kept["I(left; right)"]["value"] > 1
    assert kept["I(left; right)"]["standard_error"] > 0
    assert kept["O-information"]["value"] > 0.5  # all three say the same
    assert kept["h(left)"]["raw"] != kept["h(left)"]["value"]
    page = (folder / "report.html").read_text()
    assert page.count(" noise levels</figcaption>") == len(kept)
    assert 'aria-label="Mutual information between pairs"' in page
    assert json.loads(mld("information", folder, "--json").stdout)["estimates"]
    for asked in ("left", "left;middle", "left;left", "left;right|third|left"):
        refused = mld("information", folder, "--of", asked)
        assert refused.exit_code == 3, refused.output
        assert "write A;B" in refused.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lft,right\na,b\n", "unknown column 'lft'; did you mean 'left'"),
        ("id,label\na,b\n", "no column is a modality of the run"),
        ("left\nabsent.txt\n", "rows.csv:2: column 'left'.*absent.txt cannot be read"),
        ("right\n1 2 3\n", "row 'rows.csv:2', modality 'right': 3 numbers, expected 6"),
        ('right\n"1 2\n', "rows.csv:2: is not CSV"),
        ("left,right\n", "has no rows"),
        ("", "has no rows"),
    ],
)
@pytest.mark.parametrize("command", ["score", "impute"])
def test_a_manifest_that_does_not_fit_is_refused(
    mld: Any, done: Path, tmp_path: Path, command: str, text: str, message: str
) -> None:
    import re

    Path("rows.csv").write_text(text)
    told: Result = mld(command, done, "rows.csv", "--out", "out.csv")
    assert told.exit_code == 5, told.output
    assert re.search(message, told.stderr), told.stderr
    assert "Traceback" not in told.output
    assert [path.name for path in Path.cwd().iterdir()] == ["rows.csv"]


def test_a_run_without_marginals_says_so(
    small_run: Any, registry: Registry, mld: Any, tmp_path: Path
) -> None:
    (tmp_path / "p").mkdir()
    overrides = ["diffuse.roles=paper", "generate.guidance=0", "diffuse.steps=20"]
    folder = trained(small_run, registry, tmp_path / "p", *overrides)
    path = manifest(tmp_path / "m", gaps=True)
    for words in (("score", folder, path), ("information", folder)):
        told = mld(*words)
        assert told.exit_code == 3, told.output
        assert "has no marginals" in told.stderr
        assert "roles: three-role" in told.stderr
        assert told.stderr.count("\n") == 1
    filled = mld("impute", folder, path, "--out", "out")
    assert filled.exit_code == 0, filled.output
    assert "without guidance" in filled.stderr
    with pytest.raises(SpecError, match="no marginals"):
        load(folder, registry).score(path)
