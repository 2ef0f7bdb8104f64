"""Retrieval in worlds where the judge is known, and by judges that are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mld.config.sections import ComputeSpec, EvaluateSpec
from mld.data.coverage import SplitCoverage
from mld.data.loading import SplitRows
from mld.data.packed_items import Items
from mld.data.types import SubsetSamples
from mld.evaluation.judges import Judges, judges_of, judges_pairs
from mld.evaluation.matching import (
    MatchingJudge,
    MatchingObjective,
    _without_gaps,
    train_judge,
)
from mld.evaluation.retrieval import RetrievalTable
from mld.runtime.compute import resolve
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Classifier, Modality, ModalityConfig


class Features(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 48), nn.SiLU())
        self.head = nn.Linear(48, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.hidden(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


METHODS = {
    "kind": "vector",
    "classifier": lambda self, classes: Features(),
    **{name: None for name in Modality.__abstractmethods__ if name != "classifier"},
}
VECTOR: Any = type("Vector", (Modality,), METHODS)(ModalityConfig(latent_dim=4))


def items_of(x: Tensor, present: Tensor) -> Items:
    return Items.of(VECTOR, x[present], present)


def rows_of(items: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> SplitRows:
    count = len(next(iter(items.values())))
    present = present or {name: torch.ones(count).bool() for name in items}
    return SplitRows(
        ids=tuple(map(str, range(count))),
        items={name: items_of(x, present[name]) for name, x in items.items()},
        present=torch.stack([*present.values()], 1),
        labels=None,
    )


class AngleJudge:
    """Knows that items of `a` and `b` belong together if their angles are equal."""

    names, pairs = ("a", "b"), (("a", "b"),)
    partners = MappingProxyType({"a": ["b"], "b": ["a"]})

    def embed_all(self, name: str, x: Tensor | Items) -> dict[str, Tensor]:
        angles = x[:].flatten()
        return {self.partners[name][0]: torch.stack([angles.cos(), angles.sin()], 1)}


def table_of(rows: SplitRows, sampled: Tensor, joint: tuple[Tensor, Tensor]) -> RetrievalTable:
    """Of samples of `b` given the `a` of each row with one, and joint samples of both."""
    given = rows.items["a"].present.nonzero().flatten()
    samples = [
        SubsetSamples((), torch.arange(len(joint[0])), {}, 1, 0.1, {}),
        SubsetSamples(("a",), given, {}, 1, 0.1, {}),
    ]
    items = {(): dict(zip("ab", joint, strict=True)), ("a",): {"b": sampled[given]}}
    # Reconstructions of `b` are off by half of the distance of neighbours.
    evaluators: Any = {}
    for name, offset in (("a", 0.0), ("b", 0.7 * math.pi / len(rows.ids))):
        present = rows.items[name].present
        evaluators[name] = SimpleNamespace(
            rows=present.nonzero().flatten(), reconstructions=rows.items[name][present] + offset
        )
    judge: Any = AngleJudge()
    return RetrievalTable(judge, evaluators, rows, samples, items, 0)


COUNT = 400
ANGLES = torch.linspace(0, math.pi * (1 - 1 / COUNT), COUNT)[:, None]


def test_a_perfect_generator_reaches_the_ceiling_and_a_shuffled_one_chance() -> None:
    order = torch.randperm(COUNT)
    rows = rows_of({"a": ANGLES[order], "b": ANGLES[order]})
    perfect = table_of(rows, ANGLES[order], (ANGLES, ANGLES)).as_json()
    (scores,) = perfect["conditional"]
    assert scores["given"] == ["a"]
    assert scores["target"] == "b"
    for score in (scores, scores["real"], perfect["joint"], perfect["joint"]["real"]):
        assert score["at_1"]["value"] == score["at_10"]["value"] == 1
    assert 0.5 < scores["reconstructions"]["at_1"]["value"] < 1
    assert scores["candidates"] == 100
    assert scores["chance"] == pytest.approx({"at_1": 0.01, "at_10": 0.1})

    shuffled = table_of(rows, ANGLES[torch.randperm(COUNT)], (ANGLES, ANGLES[order])).as_json()
    for score in (*shuffled["conditional"], shuffled["joint"], *shuffled["pairs"]):
        assert score["at_10"]["low"] < 0.1 < score["at_10"]["high"]
        assert score["at_1"]["value"] < 0.04
        assert score["real"]["at_1"]["value"] == 1


def test_equal_items_count_as_the_true_partner() -> None:
    """Ten rows share each `b`; a sample that equals it in any of them is right."""
    shared = ANGLES[torch.arange(COUNT) // 10 * 10]
    rows = rows_of({"a": ANGLES, "b": shared})
    table = table_of(rows, shared, (ANGLES, shared))
    (scores,) = table.as_json()["conditional"]
    # Of the 400 different `a`, those of the nine other rows with this `b` are no candidates.
    assert scores["candidates"] == 100
    assert scores["real"]["at_10"]["value"] == 1
    assert scores["at_1"]["value"] == scores["real"]["at_1"]["value"]
    assert table.as_json()["pairs"][0]["candidates"] == 40
    messages = [*table.warnings()]
    assert any("different items: 40 of b" in message for message in messages)


def test_rows_without_an_item_are_no_candidates_and_have_no_ceiling() -> None:
    has_b = torch.arange(COUNT) % 2 == 0
    present = {"a": torch.ones(COUNT).bool(), "b": has_b}
    rows = rows_of({"a": ANGLES, "b": ANGLES}, present)
    (scores,) = table_of(rows, ANGLES, (ANGLES, ANGLES)).as_json()["conditional"]
    assert scores["at_1"] == {"value": 1.0, "low": None, "high": None, "n": COUNT}
    assert scores["real"]["at_1"]["n"] == int(has_b.sum())
    never = rows_of({"a": ANGLES, "b": ANGLES}, {"a": has_b, "b": ~has_b})
    table = table_of(never, ANGLES, (ANGLES, ANGLES))
    assert table.as_json()["conditional"][0]["real"] is None
    assert table.as_json()["joint"]["reconstructions"] is None
    assert any("no ceiling" in message for message in table.warnings())


def test_a_judge_that_sees_nothing_is_warned_of() -> None:
    rows = rows_of({"a": ANGLES, "b": ANGLES[torch.randperm(COUNT)]})
    (message,) = table_of(rows, ANGLES, (ANGLES, ANGLES)).warnings()
    assert message.startswith("Retrieval says nothing about a with b")


def world(count: int, noise: float = 0.05) -> dict[str, Tensor]:
    """Pairs that share two of four coordinates."""
    shared = torch.randn(count, 4)
    return {
        "a": torch.cat([shared[:, :2], torch.randn(count, 2)], 1) + noise * torch.randn(count, 4),
        "b": torch.cat([torch.randn(count, 2), -shared[:, :2]], 1) + noise * torch.randn(count, 4),
    }


def context_of(tmp_path: Path) -> RunContext:
    compute = resolve(ComputeSpec(accelerator="cpu", threads=1, precision="32-true"))
    return RunContext(RunDir(tmp_path / "run"), WeightStore(tmp_path / "store"), compute, seed=3)


PAIR = Judges([], [("a", "b")])


def test_the_judge_learns_pairs_from_training_rows_alone(tmp_path: Path) -> None:
    splits = {name: rows_of(world(count)) for name, count in (("train", 1500), ("validation", 200))}
    data: Any = SimpleNamespace(train=splits["train"], validation=splits["validation"])
    modalities: Any = dict.fromkeys(("a", "b"), VECTOR)
    spec = EvaluateSpec(steps=60, batch_size=128, learning_rate=0.01)
    context = context_of(tmp_path)
    judge, _ = train_judge(modalities, PAIR, spec, data, context)
    test = rows_of(world(300))
    reconstructions = {
        name: SimpleNamespace(rows=torch.arange(300), reconstructions=items[:])
        for name, items in test.items.items()
    }
    samples = [SubsetSamples(("a",), torch.arange(300), {}, 1, 0.1, {})]
    items = {("a",): {"b": test.items["b"][:]}}
    table = RetrievalTable(judge, reconstructions, test, samples, items, 0)
    (scores,) = table.as_json()["conditional"]
    assert scores["at_1"]["value"] > 0.6
    assert scores["at_10"]["value"] > 0.95
    assert scores["at_1"] == scores["real"]["at_1"] == scores["reconstructions"]["at_1"]
    assert not [*table.warnings()]
    # The heads are not trained, and the same training is not repeated.
    assert not judge.towers[0].head.weight.requires_grad
    (tmp_path / "run" / "checkpoints" / "match.safetensors").unlink()
    again, _ = train_judge(modalities, PAIR, spec, data, context)
    assert torch.equal(again.log_scale, judge.log_scale)
    assert [event["state"] for event in context.run_dir.read_events() if event["event"] == "store"]


def test_pairs_that_no_two_training_rows_have_are_not_judged(tmp_path: Path) -> None:
    x, even = torch.randn(20, 4), torch.arange(20) % 2 == 0
    present = {"a": even, "b": ~even, "c": torch.ones(20).bool()}
    rows = rows_of(dict.fromkeys("abc", x), present)
    data: Any = SimpleNamespace(train=rows, validation=rows_of(dict.fromkeys("abc", x[:0])))
    modalities: Any = dict.fromkeys("abc", VECTOR)
    train = SplitCoverage({("a", "c"): 10, ("b", "c"): 10}, dict.fromkeys("abc", ()))
    judges = judges_of(EvaluateSpec(), train)
    judge, _ = train_judge(modalities, judges, EvaluateSpec(steps=2), data, context_of(tmp_path))
    assert judge.pairs == judges.pairs == [("a", "c"), ("b", "c")]
    without = SplitCoverage({("a",): 10, ("b",): 10, ("a", "b"): 1}, {"a": [6, 5], "b": [0, 0]})
    assert judges_of(EvaluateSpec(judge="both"), without) == Judges(["a"], [])
    two = SplitCoverage({("a", "b"): 2}, {"a": [2], "b": [2]})
    assert judges_of(EvaluateSpec(judge="both"), two) == replace(PAIR, classified=["a", "b"])
    assert judges_of(EvaluateSpec(judge="retrieval"), two) == PAIR
    assert judges_of(EvaluateSpec(judge="classes"), two) == Judges(["a", "b"], [])


def test_the_loss_leaves_out_missing_and_equal_items() -> None:
    judge = MatchingJudge(
        {name: Features() for name in "ab"}, dict.fromkeys("ab", 48), [("a", "b")]
    )
    x = torch.randn(6, 4)
    x[4] = x[3]  # an equal item of `a`
    batch = {
        "x/a": x,
        "x/b": torch.randn(6, 4),
        "present": torch.tensor([[True, True]] * 5 + [[True, False]]),
        "codes": torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [3, 4], [5, -1]]),
    }
    objective = MatchingObjective(dict.fromkeys("ab", VECTOR), judge).eval()

    def loss(changes: Mapping[str, Tensor]) -> Tensor:
        return objective({**batch, **changes}, torch.Generator())[0]

    a, b = judge.embed("a", batch["x/a"])[0], judge.embed("b", batch["x/b"])[0]
    logits = (a @ b.T / 0.07)[:5, :5]
    logits[3, 4] = logits[4, 3] = -math.inf
    expected = -(logits.log_softmax(1).diag() + logits.log_softmax(0).diag()).mean() / 2
    torch.testing.assert_close(loss({}), expected)
    changed = batch["x/b"].clone()
    changed[5] = 7
    assert torch.equal(loss({"x/b": changed}), loss({}))
    nothing = loss({"present": torch.zeros(6, 2).bool()})
    assert nothing == 0


@pytest.mark.parametrize(
    ("judge", "labelled", "expected"),
    [
        ("auto", {"a": [], "b": []}, True),
        ("auto", {"a": [0, 0], "b": [9, 9]}, True),
        ("auto", {"a": [4] * 10, "b": [4] * 10}, False),  # few rows of few classes
        ("auto", {"a": [500] * 100, "b": [500] * 100}, False),  # many classes, none rare
        ("auto", {"a": [30] * 81, "b": [30] * 81}, True),
        ("auto", {"a": []}, False),  # nothing to pair with
        ("classes", {"a": [], "b": []}, False),
        ("retrieval", {"a": [9], "b": [9]}, True),
        ("both", {"a": [9], "b": [9]}, True),
        ("both", {"a": [9]}, False),
    ],
)
def test_when_pairs_are_judged(judge: Any, labelled: dict[str, list[int]], expected: bool) -> None:
    assert judges_pairs(EvaluateSpec(judge=judge), labelled) is expected


def test_the_default_judge_is_not_in_the_resolved_spec() -> None:
    assert "judge" not in EvaluateSpec().model_dump()
    assert EvaluateSpec(judge="both").model_dump()["judge"] == "both"


def test_missing_items_are_replaced_in_training() -> None:
    x = torch.randn(3, 4)
    items = items_of(x, torch.tensor([False, True, True]))
    filled = _without_gaps(items)
    assert torch.equal(filled[:], x[[1, 1, 2]])
    empty = replace(items, place=torch.full((3,), -1))
    assert torch.equal(_without_gaps(empty)[:], torch.zeros(3, 4))
