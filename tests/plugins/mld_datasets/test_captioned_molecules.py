from __future__ import annotations

import gzip

import pytest

from mld import load_spec
from mld.conformance import check_dataset
from mld.data.loading import Data, fit_modalities, open_dataset
from mld_core import SPLITS, DataError, Registry, SpecError
from mld_datasets.captioned_molecules import CaptionedMolecules, CaptionedMoleculesConfig

HEADER = "CID\tSMILES\tdescription"


def make_dataset(folder, seed=0, **settings) -> CaptionedMolecules:
    return CaptionedMolecules(CaptionedMoleculesConfig(folder=folder, **settings), {}, seed)


def error_message(folder, split="train", **settings) -> str:
    with pytest.raises(DataError) as caught:
        list(make_dataset(folder, **settings).split(split).items["molecule"])
    return str(caught.value).replace(str(folder), "FOLDER")


def text(rows: list[tuple[str, str]]) -> str:
    lines = [f"{cid}\t{smiles}\t{caption}" for cid, (smiles, caption) in enumerate(rows)]
    return "\n".join([HEADER, *lines, ""])


def chains(count: int, prefix: str) -> list[tuple[str, str]]:
    return [("C" * (size + 1), f"{prefix} {size}") for size in range(count)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "chebi20").mkdir()
    (tmp_path / "chebi20" / "train.txt").write_text(text(chains(30, "an alkane of")))
    compressed = gzip.compress(text(chains(20, "of")).encode())
    (tmp_path / "chebi20" / "validation.txt.gz").write_bytes(compressed)
    (tmp_path / "chebi20" / "test.txt").write_text(text(chains(5, "µ")), encoding="utf-8")
    return tmp_path


def test_rows_are_read_in_order(folder):
    dataset = make_dataset(folder, train=3)
    train, validation, test = map(dataset.split, ("train", "validation", "test"))
    assert train.ids == ["train.txt:2 CID 0", "train.txt:3 CID 1", "train.txt:4 CID 2"]
    assert list(train.items["molecule"]) == ["C", "CC", "CCC"]
    assert list(train.items["caption"]) == ["an alkane of 0", "an alkane of 1", "an alkane of 2"]
    assert train.labels is None
    assert dataset.classes == ()
    assert len(validation.ids) == 20
    assert test.items["caption"][0] == "µ 0"


def test_doubled_backslashes_and_empty_cells(folder):
    rows = [(r"C/C=C\\C", "one\r"), ("", "two"), ("C", "")]
    (folder / "chebi20" / "test.txt").write_text(text(rows), newline="")
    items = make_dataset(folder).split("test").items
    assert list(items["molecule"]) == [r"C/C=C\C", None, "C"]
    assert list(items["caption"]) == ["one", "two", None]


def test_train_from_validation(folder):
    (folder / "chebi20" / "train.txt").unlink()
    message = error_message(folder)
    assert message.startswith("FOLDER: lacks train.txt of ChEBI-20; expected train.txt, ")
    assert message.endswith("or set train_from: validation")
    dataset = make_dataset(folder, train_from="validation")
    ids = dataset.split("train").ids + dataset.split("validation").ids
    assert len(dataset.split("validation").ids) == 2
    assert ids == [f"validation.txt.gz:{row + 2} CID {row}" for row in range(20)]


def test_invalid_rows_are_dropped(folder):
    rows = [("[As]C", "unknown symbol"), ("C(C", "no molecule"), ("CC", "x" * 21), ("CC", "fits")]
    (folder / "chebi20" / "test.txt").write_text(text(rows))
    path = folder / "spec.yaml"
    path.write_text(
        "name: molecules\ndata: {kind: captioned-molecules, folder: ., on_invalid: drop}\n"
        "modalities:\n  molecule: {kind: molecule, latent_dim: 8}\n"
        "  caption: {kind: text, latent_dim: 8, max_bytes: 20}\n"
    )
    spec = load_spec(path, Registry())
    dataset = open_dataset(spec, Registry())
    data = Data(dataset, fit_modalities(spec, dataset, Registry()), on_invalid="drop")
    assert data.test.ids == ("test.txt:5 CID 3",)
    assert [fault.row for fault in data.test.faults] == [
        "test.txt:2 CID 0",
        "test.txt:3 CID 1",
        "test.txt:4 CID 2",
    ]


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ("unfit: drop", "data.unfit: `unfit` is now called `on_invalid`"),
        ("on_invalid: leave_out", "data.on_invalid: `leave_out` is now called `drop`"),
    ],
)
def test_old_key_and_value_name_the_new_ones(folder, old, expected):
    path = folder / "spec.yaml"
    path.write_text(
        f"name: molecules\ndata: {{kind: captioned-molecules, folder: ., {old}}}\n"
        "modalities:\n  molecule: {kind: molecule, latent_dim: 8}\n"
        "  caption: {kind: text, latent_dim: 8}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(path, Registry())
    assert str(caught.value) == f"{path}:2: {expected}"


def test_missing_folder(tmp_path):
    message = error_message(tmp_path / "no")
    assert message.startswith("FOLDER: is not a readable folder; expected train.txt")
    assert "Get ChEBI-20 from https://github.com/blender-nlp/MolT5" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "1: the header must be CID, SMILES, description, tab-separated"),
        (b"CID,SMILES,description\n", "1: the header must be CID, SMILES, description"),
        (f"{HEADER}\n1\tC".encode(), "2: has 2 cells, expected 3"),
        (f"{HEADER}\n1\tC\tx\n2\tC\t\xff".encode("latin-1"), "3: is not UTF-8 text: invalid"),
        (f"{HEADER}\n".encode(), " has no rows"),
    ],
)
def test_invalid_file_is_named(folder, content, expected):
    (folder / "chebi20" / "train.txt").write_bytes(content)
    assert error_message(folder).startswith(f"FOLDER/chebi20/train.txt:{expected}")


def test_truncated_gz_is_named(folder):
    path = folder / "chebi20" / "validation.txt.gz"
    path.write_bytes(path.read_bytes()[:-9])
    message = error_message(folder, "validation")
    assert message.startswith(
        "FOLDER/chebi20/validation.txt.gz: cannot be read, truncated or corrupt"
    )


def test_fingerprint_depends_on_file_contents(folder):
    before = make_dataset(folder).fingerprint()
    (folder / "chebi20" / "train.txt").write_text(text(chains(31, "an alkane of")))
    assert make_dataset(folder).fingerprint() != before


@pytest.mark.usefixtures("warm_checks")
def test_contract(folder):
    records = check_dataset("captioned-molecules", {"folder": folder})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    dataset = make_dataset(real_data, train_from="validation", train=300)
    splits = {name: dataset.split(name) for name in SPLITS}
    assert {name: len(split.ids) for name, split in splits.items()} == {
        "train": 300,
        "validation": 330,
        "test": 3300,
    }
