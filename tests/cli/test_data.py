from __future__ import annotations

from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import pytest
import torch
from pydantic import Field

from mld.config.plugin_sections import KindSpec
from mld.config.spec import Spec
from mld.data import columns
from mld.data.loading import fit_modalities, load_data, load_modalities, open_dataset
from mld_core import (
    DataError,
    Dataset,
    DatasetConfig,
    Modality,
    ModalityConfig,
    PluginError,
    Registry,
    SpecError,
    Split,
    hookimpl,
)


class NumbersConfig(ModalityConfig):
    most: int = Field(100, description="the greatest number that an item may hold")


class Numbers(Modality):
    """Raw: a list of numbers. Its fact is the greatest one of the training split."""

    kind = "numbers"
    Config = NumbersConfig
    autoencoder = classifier = write = read = examples = None

    def __init__(self, config, facts=None):
        if config.most == 0:
            raise ValueError("most must leave room for a number")
        super().__init__(config, facts)

    @classmethod
    def fit(cls, config, raw):
        greatest = [max(numbers) for numbers in raw]
        if config.most == 99:
            raise KeyError("vocabulary")
        if config.most == 98:
            return {"greatest": {1, 2}}
        if max(greatest) > config.most:
            raise ValueError(f"{max(greatest)} is above most: {config.most}")
        return {"greatest": max(greatest), "seen": (len(greatest),)}

    def preprocess(self, raw):
        if raw == "text":
            raise ValueError("is text; set most")
        if raw[0] == 13:
            raise RuntimeError("unlucky")
        if raw[0] == 14:
            return raw
        return torch.tensor(raw, dtype=torch.float32)


class RowsConfig(DatasetConfig):
    train: list
    validation: list = Field([])
    test: list = Field([])
    labels: list | None = None
    refuse: str = ""


class Unreadable(list):
    def __getitem__(self, row):
        value = super().__getitem__(row)
        if value == "absent":
            raise FileNotFoundError("a/b.txt is not there")
        if value == "bug":
            raise KeyError("oops")
        return value


class Rows(Dataset):
    """Rows as the spec tells them: pairs of the columns left and right."""

    kind = "rows"
    Config = RowsConfig
    classes = ("a", "b")
    calls = 0

    def __init__(self, config, modalities, seed):
        super().__init__(config, modalities, seed)
        if config.refuse == "__init__":
            raise FileNotFoundError("table.csv is not there")

    @property
    def columns(self):
        return {"left": "numbers", "right": "numbers", "sound": "audio"}

    def split(self, name):
        self.calls += 1
        if self.config.refuse == "value":
            raise ValueError("is shut")
        if self.config.refuse == "bug":
            raise AttributeError("no such thing")
        rows = getattr(self.config, name)
        left, right = (Unreadable(row[side] for row in rows) for side in (0, 1))
        items = {"left": left, "right": right}
        ids = [f"{name}-{row}" for row in range(len(rows))]
        if self.config.refuse == "ids":
            ids = ["same"] * len(rows)
        if self.config.refuse == "column":
            del items["right"]
        if self.config.refuse == "length":
            items["right"].append(None)
        return Split(ids, items, self.config.labels)


def plugin(kind: str, **hooks) -> ModuleType:
    module = ModuleType(kind)
    for name, provided in hooks.items():
        setattr(module, name, hookimpl(lambda provided=provided: [provided]))
    return module


PLUGINS = SimpleNamespace(
    numbers=plugin("numbers", register_modalities=Numbers),
    rows=plugin("rows", register_datasets=Rows),
)


@pytest.fixture
def registry():
    return Registry(
        [EntryPoint(kind, f"{__name__}:PLUGINS.{kind}", "mld") for kind in ("numbers", "rows")]
    )


def parse_spec(train, names=("left", "right"), most=100, **rows) -> Spec:
    numbers = KindSpec(kind="numbers", config=NumbersConfig(latent_dim=1, most=most))
    return Spec(
        name="test",
        data=KindSpec(kind="rows", config=RowsConfig(train=train, **rows)),
        modalities=dict.fromkeys(names, numbers),
    )


@pytest.fixture
def data_of(registry):
    def data_of(train, **rows):
        spec = parse_spec(train, **rows)
        dataset = open_dataset(spec, registry)
        return load_data(dataset, load_modalities(spec, registry, {}))

    return data_of


TRAIN = [([1.0, 2.0], [3.0]), ([4.0, 5.0], None), (None, None), (None, [6.0])]


def test_rows_keep_what_is_recorded(data_of):
    rows = data_of(TRAIN, labels=[0, -1, 1, 1]).train
    assert rows.ids == ("train-0", "train-1", "train-3")
    assert rows.dropped == 1
    assert rows.present.tolist() == [[True, True], [True, False], [False, True]]
    assert rows.items["left"].tolist() == [[1, 2], [4, 5], [0, 0]]
    assert rows.items["right"].tolist() == [[3], [0], [6]]
    assert rows.labels.tolist() == [0, -1, 1]
    assert rows.labels.dtype == torch.int64


def test_a_split_without_a_modality_has_zeros_of_its_form(data_of):
    data = data_of(TRAIN, validation=[([7.0, 8.0], None)])
    assert data.validation.items["right"].shape == (1, 1)
    assert data.validation.items["right"].tolist() == [[0.0]]
    assert data.validation.present.tolist() == [[True, False]]
    assert data.validation.labels is None
    assert data.test.ids == ()
    assert data.test.items["left"].shape == (0, 2)
    assert data.rows("test") is data.test
    assert data.rows("validation") is data.validation
    assert data.rows("train") is data.train


def test_nothing_is_read_before_it_is_wanted(registry):
    spec = parse_spec(TRAIN)
    dataset = open_dataset(spec, registry)
    data = load_data(dataset, load_modalities(spec, registry, {}))
    assert data.classes == ("a", "b")
    assert dataset.calls == 0
    assert data.train is data.train
    assert dataset.calls == 1


def test_columns_stand_in_the_specs_order(registry):
    spec = parse_spec(TRAIN, names=("right", "left"))
    dataset = open_dataset(spec, registry)
    rows = load_data(dataset, load_modalities(spec, registry, {})).train
    assert list(rows.items) == ["right", "left"]
    assert rows.present[1].tolist() == [False, True]


def test_facts_come_from_the_training_split_and_come_back(registry):
    spec = parse_spec(TRAIN, validation=[([50.0], [60.0])])
    fitted = fit_modalities(spec, open_dataset(spec, registry), registry)
    assert fitted["left"].facts == {"greatest": 5.0, "seen": [2]}
    assert fitted["right"].facts == {"greatest": 6.0, "seen": [2]}
    facts = {name: modality.facts for name, modality in fitted.items()}
    assert load_modalities(spec, registry, facts)["left"].facts == fitted["left"].facts


def test_columns_must_be_those_of_the_dataset(registry):
    with pytest.raises(SpecError) as caught:
        open_dataset(parse_spec(TRAIN, names=("lefd", "left", "sound")), registry)
    assert str(caught.value) == (
        "modalities.lefd: dataset 'rows' has no column 'lefd' (columns: left, right, sound); "
        "did you mean 'left'?\n"
        "modalities.sound: is of kind 'numbers', but that column of dataset 'rows' is 'audio'"
    )


def test_a_modality_may_refuse_its_settings(registry):
    with pytest.raises(SpecError) as caught:
        open_dataset(parse_spec(TRAIN, most=0), registry)
    assert str(caught.value) == "modalities.left: most must leave room for a number"


def test_unusable_items_are_told_together(data_of):
    nan = float("nan")
    with pytest.raises(DataError) as caught:
        _ = data_of([([1.0], [1.0]), ("absent", [nan]), ("text", [2.0])]).train
    assert str(caught.value) == (
        "3 items of the train split cannot be used:\n"
        "  row 'train-1', modality 'left': a/b.txt is not there\n"
        "  row 'train-2', modality 'left': 'text': is text; set most\n"
        "  row 'train-1', modality 'right': holds NaN or infinity"
    )


def test_at_most_ten_unusable_items_are_shown(data_of):
    with pytest.raises(DataError) as caught:
        _ = data_of([([1.0], [1.0])], test=[("text", None)] * 12).test
    lines = str(caught.value).splitlines()
    assert lines[0] == "12 items of the test split cannot be used:"
    assert lines[10] == "  row 'test-9', modality 'left': 'text': is text; set most"
    assert lines[11:] == ["  ... and 2 more"]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([], "the train split has no row with anything recorded"),
        ([(None, None)], "the train split has no row with anything recorded"),
        ([([1.0], None)], "the train split has no item of modality 'right'"),
    ],
)
def test_training_needs_items(data_of, train, expected):
    with pytest.raises(DataError) as caught:
        _ = data_of(train).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (
            [13],
            "kind 'numbers': preprocess failed on row 'train-1', modality 'left': "
            "RuntimeError: unlucky",
        ),
        (
            [14],
            "kind 'numbers': preprocess failed on row 'train-1', modality 'left': "
            "TypeError: returned list, not a Tensor",
        ),
        (
            [1, 2],
            "kind 'numbers': preprocess gives (2,) torch.float32 on row 'train-1', modality "
            "'left', and gave (1,) torch.float32 before: the form of an item may depend on config "
            "and facts alone",
        ),
        (
            "bug",
            "kind 'rows': reading an item failed on row 'train-1', modality 'left': "
            "KeyError: 'oops'",
        ),
    ],
)
def test_a_broken_plugin_is_named(data_of, bad, expected):
    with pytest.raises(PluginError) as caught:
        _ = data_of([([1.0], [1.0]), (bad, [1.0])]).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("refuse", "error", "expected"),
    [
        ("value", DataError, "dataset 'rows': split('train'): is shut"),
        ("bug", PluginError, "kind 'rows': split('train') failed: AttributeError: no such thing"),
        ("ids", PluginError, "kind 'rows': split('train') repeats an id"),
        ("column", PluginError, "kind 'rows': split('train') serves no column 'right'"),
        (
            "length",
            PluginError,
            "kind 'rows': split('train') has 4 ids, but 5 items in column 'right'",
        ),
    ],
)
def test_a_broken_split_is_named(data_of, refuse, error, expected):
    with pytest.raises(error) as caught:
        _ = data_of(TRAIN, refuse=refuse).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0], "kind 'rows': split('train') has 4 ids, but 1 labels"),
        ([0, 1, 2, 0], "kind 'rows': split('train') has the label 2, but there are 2 classes"),
        ([0, 1, -2, 0], "kind 'rows': split('train') has the label -2, but there are 2 classes"),
    ],
)
def test_broken_labels_are_named(data_of, labels, expected):
    with pytest.raises(PluginError) as caught:
        _ = data_of(TRAIN, labels=labels).train
    assert str(caught.value) == expected


def test_a_dataset_that_cannot_be_opened(registry):
    with pytest.raises(DataError) as caught:
        open_dataset(parse_spec(TRAIN, refuse="__init__"), registry)
    assert str(caught.value) == "dataset 'rows': table.csv is not there"


@pytest.mark.parametrize(
    ("most", "train", "error", "expected"),
    [
        (4, TRAIN, DataError, "modality 'left' cannot be fitted: 5.0 is above most: 4"),
        (99, TRAIN, PluginError, "kind 'numbers': fit failed: KeyError: 'vocabulary'"),
        (
            98,
            TRAIN,
            PluginError,
            "kind 'numbers': fit returns what is not JSON: Object of type set is not JSON "
            "serializable",
        ),
        (
            50,
            [([1.0], [1.0]), ("absent", [2.0])],
            DataError,
            "1 item of the train split cannot be used:\n"
            "  row 'train-1', modality 'left': a/b.txt is not there",
        ),
    ],
)
def test_what_goes_wrong_in_fitting(registry, most, train, error, expected):
    spec = parse_spec(train, most=most)
    with pytest.raises(error) as caught:
        fit_modalities(spec, open_dataset(spec, registry), registry)
    assert str(caught.value) == expected


def test_no_progress_where_nobody_watches(data_of, monkeypatch, capsys):
    monkeypatch.setattr(columns, "SLOW", 1)
    assert len(data_of(TRAIN).train.ids) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
