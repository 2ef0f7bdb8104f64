from __future__ import annotations

import os
import warnings
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace

import pytest
import torch
from pydantic import Field

from mld.config.plugin_sections import KindSpec
from mld.config.spec import Spec
from mld.data.faults import InvalidItemsError
from mld.data.loading import (
    INVALID_ADVICE,
    Data,
    all_faults,
    fit_columns,
    fit_modalities,
    load_modalities,
    modalities_of,
    open_dataset,
)
from mld_core import (
    SPLITS,
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
    latent_dim: int = Field(ge=1)
    maximum: int = Field(100, description="the greatest number that an item may hold")


class Numbers(Modality):
    """Raw: a list of numbers. The fact is the greatest number of the training split."""

    kind = "numbers"
    Config = NumbersConfig
    autoencoder = classifier = write = read = examples = None

    def __init__(self, config, facts=None):
        if config.maximum == 0:
            raise ValueError("maximum must leave room for a number")
        super().__init__(config, facts)

    @classmethod
    def fit(cls, config, raw):
        greatest = [max(numbers) for numbers in raw]
        if config.maximum == 99:
            raise KeyError("vocabulary")
        if config.maximum == 98:
            return {"greatest": {1, 2}}
        if max(greatest) > config.maximum:
            raise ValueError(f"{max(greatest)} is above maximum: {config.maximum}")
        return {"greatest": max(greatest), "rows": (len(greatest),)}

    def preprocess(self, raw):
        if raw == "text":
            raise ValueError("is text; set maximum")
        if raw[0] == 13:
            raise RuntimeError("unlucky")
        if raw[0] == 14:
            return raw
        if raw[0] == 15:
            warnings.warn("is pale", stacklevel=1)
        if raw[0] > 1000:
            warnings.warn(f"is {raw[0]}", stacklevel=1)
        if raw[0] == 16:
            os.write(2, b"codec: lost\nin time\n")
        return torch.tensor(raw, dtype=torch.float32)


class RowsConfig(DatasetConfig):
    train: list
    validation: list = Field([])
    test: list = Field([])
    labels: list | None = None
    error: str = ""


class RaisingList(list):
    def __getitem__(self, row):
        value = super().__getitem__(row)
        if value == "absent":
            raise FileNotFoundError("a/b.txt is not there")
        if value == "bug":
            raise KeyError("oops")
        return value


class Rows(Dataset):
    """Rows as listed in the config: pairs of items of the columns left and right."""

    kind = "rows"
    Config = RowsConfig
    classes = ("a", "b")
    calls = 0

    def __init__(self, config, modalities, seed):
        super().__init__(config, modalities, seed)
        if config.error == "__init__":
            raise FileNotFoundError("table.csv is not there")

    @property
    def columns(self):
        return {"left": "numbers", "right": "numbers", "sound": "audio"}

    def split(self, name):
        self.calls += 1
        if self.config.error == "value":
            raise ValueError("is closed")
        if self.config.error == "bug":
            raise AttributeError("no such thing")
        rows = getattr(self.config, name)
        left, right = (RaisingList(row[side] for row in rows) for side in (0, 1))
        items = {"left": left, "right": right}
        ids = [f"{name}-{row}" for row in range(len(rows))]
        if self.config.error == "ids":
            ids = ["same"] * len(rows)
        if self.config.error == "column":
            del items["right"]
        if self.config.error == "length":
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


def make_spec(train, names=("left", "right"), maximum=100, **rows) -> Spec:
    numbers = KindSpec(kind="numbers", config=NumbersConfig(latent_dim=1, maximum=maximum))
    return Spec(
        name="test",
        data=KindSpec(kind="rows", config=RowsConfig(train=train, **rows)),
        modalities=dict.fromkeys(names, numbers),
    )


@pytest.fixture
def make_data(registry):
    def make_data(train, **rows):
        spec = make_spec(train, **rows)
        dataset = open_dataset(spec, registry)
        return Data(dataset, load_modalities(spec, registry, {}))

    return make_data


TRAIN = [([1.0, 2.0], [3.0]), ([4.0, 5.0], None), (None, None), (None, [6.0])]


def test_empty_rows_are_dropped(make_data):
    rows = make_data(TRAIN, labels=[0, -1, 1, 1]).train
    assert rows.ids == ("train-0", "train-1", "train-3")
    assert rows.dropped == 1
    assert rows.present.tolist() == [[True, True], [True, False], [False, True]]
    assert rows.items["left"][:].tolist() == [[1, 2], [4, 5], [0, 0]]
    assert rows.items["right"][:].tolist() == [[3], [0], [6]]
    assert rows.labels.tolist() == [0, -1, 1]
    assert rows.labels.dtype == torch.int64


def test_split_without_a_modality_has_zeros(make_data):
    data = make_data(TRAIN, validation=[([7.0, 8.0], None)])
    assert data.validation.items["right"][:].shape == (1, 1)
    assert data.validation.items["right"][:].tolist() == [[0.0]]
    assert data.validation.present.tolist() == [[True, False]]
    assert data.validation.labels is None
    assert data.test.ids == ()
    assert data.test.items["left"][:].shape == (0, 2)
    assert data.split("test") is data.test
    assert data.split("validation") is data.validation
    assert data.split("train") is data.train


def test_splits_are_loaded_lazily(registry):
    spec = make_spec(TRAIN)
    dataset = open_dataset(spec, registry)
    data = Data(dataset, load_modalities(spec, registry, {}))
    assert data.classes == ("a", "b")
    assert dataset.calls == 0
    assert data.train is data.train
    assert dataset.calls == 1


def test_columns_are_in_spec_order(registry):
    spec = make_spec(TRAIN, names=("right", "left"))
    dataset = open_dataset(spec, registry)
    rows = Data(dataset, load_modalities(spec, registry, {})).train
    assert list(rows.items) == ["right", "left"]
    assert rows.present[1].tolist() == [False, True]


def test_facts_are_fitted_on_train_and_restored(registry):
    spec = make_spec(TRAIN, validation=[([50.0], [60.0])])
    fitted = fit_modalities(spec, open_dataset(spec, registry), registry)
    assert fitted["left"].facts == {"greatest": 5.0, "rows": [2]}
    assert fitted["right"].facts == {"greatest": 6.0, "rows": [2]}
    facts = {name: modality.facts for name, modality in fitted.items()}
    assert load_modalities(spec, registry, facts)["left"].facts == fitted["left"].facts


def test_spec_columns_must_match_dataset(registry):
    with pytest.raises(SpecError) as caught:
        open_dataset(make_spec(TRAIN, names=("lefd", "left", "sound")), registry)
    assert str(caught.value) == (
        "modalities.lefd: dataset 'rows' has no column 'lefd' (columns: left, right, sound); "
        "did you mean 'left'?\n"
        "modalities.sound: is of kind 'numbers', but that column of dataset 'rows' is 'audio'"
    )


def test_modality_rejects_settings(registry):
    with pytest.raises(SpecError) as caught:
        open_dataset(make_spec(TRAIN, maximum=0), registry)
    assert str(caught.value) == "modalities.left: maximum must leave room for a number"


def test_invalid_items_are_reported_together(make_data):
    nan = float("nan")
    with pytest.raises(DataError) as caught:
        _ = make_data([([1.0], [1.0]), ("absent", [nan]), ("text", [2.0])]).train
    assert str(caught.value) == (
        "3 items cannot be used (train 3):\n"
        "  row 'train-1', modality 'left': a/b.txt is not there\n"
        "  row 'train-2', modality 'left': 'text': is text; set maximum\n"
        f"  row 'train-1', modality 'right': holds NaN or infinity\n{INVALID_ADVICE}"
    )


def test_invalid_items_of_all_splits_are_reported_together(make_data):
    train = [([1.0], [1.0]), ("text", [2.0])]
    data = make_data(train, validation=[("absent", [1.0])], test=[([1.0], "text")])
    for split in SPLITS:
        with pytest.raises(InvalidItemsError) as caught:
            data.split(split)
        assert [(fault.split, fault.row) for fault in caught.value.faults] == [
            ("train", "train-1"),
            ("validation", "validation-0"),
            ("test", "test-0"),
        ]
        assert caught.value.items == {"left": 4, "right": 4}


INVALID = [
    ([1.0], [1.0]),
    ("text", [2.0]),
    ([3.0], "absent"),
    (None, None),
    ("text", "text"),
    ([5.0], None),
]


@pytest.mark.parametrize(
    ("on_invalid", "rows", "present", "dropped"),
    [
        ("empty", [0, 1, 2, 5], [[1, 1], [0, 1], [1, 0], [1, 0]], 2),
        ("drop", [0, 5], [[1, 1], [1, 0]], 1),
    ],
)
def test_invalid_items_are_left_out(registry, on_invalid, rows, present, dropped):
    spec = make_spec(INVALID, validation=[("text", None)], labels=None)
    modalities = load_modalities(spec, registry, {})
    data = Data(open_dataset(spec, registry), modalities, on_invalid=on_invalid)
    train = data.train
    assert train.ids == tuple(f"train-{row}" for row in rows)
    assert train.present.int().tolist() == present
    assert train.dropped == dropped
    assert not train.items["right"][~train.present[:, 1]].any()
    assert data.validation.ids == ()
    faults, items = all_faults(data)
    assert [fault.row for fault in faults] == [
        "train-1",
        "train-4",
        "train-2",
        "train-4",
        "validation-0",
    ]
    assert items == {"left": 6, "right": 4}


def test_warnings_name_rows(make_data, capfd):
    train = [([15.0], [1.0]), ([16.0], [15.0]), ([15.0], [1.0]), ([15.0], None)]
    with pytest.warns(UserWarning, match="^row") as caught:
        rows = make_data(train).train
    assert rows.items["left"][:].flatten().tolist() == [15, 16, 15, 15]
    assert [str(warning.message) for warning in caught] == [
        "row 'train-0', modality 'left' and 2 more rows: is pale",
        "row 'train-1', modality 'left': codec: lost; in time",
        "row 'train-1', modality 'right': is pale",
    ]
    assert capfd.readouterr().err == ""


def test_ten_warnings_are_shown(make_data):
    with pytest.warns(UserWarning, match="is 1|more warnings") as caught:
        _ = make_data([([1001.0 + row], [1.0]) for row in range(12)]).train
    assert len(caught) == 11
    assert str(caught[10].message) == "modality 'left': 2 more warnings"


def test_ten_invalid_items_are_shown(make_data):
    with pytest.raises(DataError) as caught:
        _ = make_data([([1.0], [1.0])], test=[("text", None)] * 12).test
    lines = str(caught.value).splitlines()
    rows = ", ".join(f"'test-{row}'" for row in range(10))
    assert lines == [
        "12 items cannot be used (test 12):",
        f"  rows {rows} and 2 more, modality 'left': 'text': is text; set maximum",
        INVALID_ADVICE,
    ]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([], "the train split has no row with anything recorded"),
        ([(None, None)], "the train split has no row with anything recorded"),
        ([([1.0], None)], "the train split has no item of modality 'right'"),
    ],
)
def test_train_split_needs_items(make_data, train, expected):
    with pytest.raises(DataError) as caught:
        _ = make_data(train).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (
            [13],
            "kind 'numbers': preprocess of row 'train-1', modality 'left' failed: "
            "RuntimeError: unlucky",
        ),
        (
            [14],
            "kind 'numbers': preprocess of row 'train-1', modality 'left' failed: "
            "TypeError: returned list, not a Tensor",
        ),
        (
            [1, 2],
            "kind 'numbers': preprocess of row 'train-1', modality 'left' returned (2,) "
            "torch.float32, but (1,) torch.float32 before: shape and dtype of an item may depend "
            "only on config and facts",
        ),
        (
            "bug",
            "kind 'rows': reading row 'train-1', modality 'left' failed: KeyError: 'oops'",
        ),
    ],
)
def test_plugin_error_names_plugin_and_row(make_data, bad, expected):
    with pytest.raises(PluginError) as caught:
        _ = make_data([([1.0], [1.0]), (bad, [1.0])]).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("failure", "error", "expected"),
    [
        ("value", DataError, "dataset 'rows': split('train'): is closed"),
        ("bug", PluginError, "kind 'rows': split('train') failed: AttributeError: no such thing"),
        ("ids", PluginError, "kind 'rows': split('train') repeats an id"),
        ("column", PluginError, "kind 'rows': split('train') has no column 'right'"),
        (
            "length",
            PluginError,
            "kind 'rows': split('train') has 4 ids, but 5 items in column 'right'",
        ),
    ],
)
def test_split_breaking_the_contract(make_data, failure, error, expected):
    with pytest.raises(error) as caught:
        _ = make_data(TRAIN, error=failure).train
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0], "kind 'rows': split('train') has 4 ids, but 1 labels"),
        ([0, 1, 2, 0], "kind 'rows': split('train') has the label 2, but there are 2 classes"),
        ([0, 1, -2, 0], "kind 'rows': split('train') has the label -2, but there are 2 classes"),
    ],
)
def test_invalid_labels(make_data, labels, expected):
    with pytest.raises(PluginError) as caught:
        _ = make_data(TRAIN, labels=labels).train
    assert str(caught.value) == expected


def test_dataset_constructor_error(registry):
    with pytest.raises(DataError) as caught:
        open_dataset(make_spec(TRAIN, error="__init__"), registry)
    assert str(caught.value) == "dataset 'rows': table.csv is not there"


@pytest.mark.parametrize(
    ("maximum", "train", "error", "expected"),
    [
        (
            4,
            [([7.0], [1.0]), ([7.0], [1.0])],
            DataError,
            "modality 'left' cannot be fitted: 7.0 is above maximum: 4",
        ),
        (
            4,
            [([7.0], [1.0]), ([8.0], "absent"), ("absent", [1.0])],
            DataError,
            "3 items cannot be used (train 3):\n"
            "  row 'train-2', modality 'left': a/b.txt is not there\n"
            "  rows 'train-0', 'train-1', modality 'left': 7.0 is above maximum: 4",
        ),
        (99, TRAIN, PluginError, "kind 'numbers': fit failed: KeyError: 'vocabulary'"),
        (
            98,
            TRAIN,
            PluginError,
            "kind 'numbers': fit returned a value that is not JSON: Object of type set is not JSON "
            "serializable",
        ),
    ],
)
def test_fit_errors(registry, maximum, train, error, expected):
    spec = make_spec(train, maximum=maximum)
    with pytest.raises(error) as caught:
        fit_modalities(spec, open_dataset(spec, registry), registry)
    assert str(caught.value) == expected


def test_rows_that_fit_rejects_are_left_out(registry):
    train = [("absent", [1.0]), ([5.0], [1.0]), (None, [1.0]), ([1.0], [1.0]), ([6.0], [1.0])]
    spec = make_spec(train, maximum=4)
    dataset = open_dataset(spec, registry)
    fits = fit_columns(spec, dataset, registry)
    assert fits["left"].facts == {"greatest": 1.0, "rows": [1]}
    modalities = modalities_of(spec, registry, fits)
    rejected = {name: fit.rejected for name, fit in fits.items()}
    with pytest.raises(DataError) as caught:
        _ = Data(dataset, modalities, rejected=rejected).train
    assert str(caught.value).splitlines()[:3] == [
        "3 items cannot be used (train 3):",
        "  row 'train-0', modality 'left': a/b.txt is not there",
        "  rows 'train-1', 'train-4', modality 'left': 5.0 is above maximum: 4",
    ]
    train = Data(dataset, modalities, on_invalid="empty", rejected=rejected).train
    assert train.present[:, 0].tolist() == [False, False, False, True, False]


def test_short_reading_shows_no_progress(make_data, capsys):
    assert len(make_data(TRAIN).train.ids) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
