from __future__ import annotations

import gzip

import pytest

from mld.conformance import check_dataset
from mld_core import DataError
from mld_datasets.captioned_molecules import CaptionedMolecules, CaptionedMoleculesConfig
from mld_molecule.modality import Molecule, MoleculeConfig
from mld_text.modality import Text, TextConfig

HEADER = "CID\tSMILES\tdescription"
MOLECULE = Molecule(MoleculeConfig(latent_dim=8))
CAPTION = Text(TextConfig(max_bytes=20))
EVERY = {"molecule": MOLECULE, "caption": CAPTION}


def opened(folder, seed=0, modalities=None, **settings) -> CaptionedMolecules:
    config = CaptionedMoleculesConfig(folder=folder, **settings)
    return CaptionedMolecules(config, modalities or {}, seed)


def refusal(folder, split="train", **settings) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, **settings).split(split)
    return str(caught.value).replace(str(folder), "FOLDER")


def text(rows: list[tuple[str, str]]) -> str:
    lines = [f"{cid}\t{smiles}\t{said}" for cid, (smiles, said) in enumerate(rows)]
    return "\n".join([HEADER, *lines, ""])


def chains(count: int, said: str) -> list[tuple[str, str]]:
    return [("C" * (size + 1), f"{said} {size}") for size in range(count)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "chebi20").mkdir()
    (tmp_path / "chebi20" / "train.txt").write_text(text(chains(30, "an alkane of")))
    packed = gzip.compress(text(chains(20, "of")).encode())
    (tmp_path / "chebi20" / "validation.txt.gz").write_bytes(packed)
    (tmp_path / "chebi20" / "test.txt").write_text(text(chains(5, "µ")), encoding="utf-8")
    return tmp_path


def test_rows_are_those_of_the_files(folder):
    dataset = opened(folder, train=3)
    train, validation, test = map(dataset.split, ("train", "validation", "test"))
    assert train.ids == ["train.txt:2 CID 0", "train.txt:3 CID 1", "train.txt:4 CID 2"]
    assert train.items["molecule"] == ["C", "CC", "CCC"]
    assert train.items["caption"] == ["an alkane of 0", "an alkane of 1", "an alkane of 2"]
    assert train.labels is None
    assert dataset.classes == ()
    assert len(validation.ids) == 20
    assert test.items["caption"][0] == "µ 0"


def test_doubled_backslashes_are_made_single_and_empty_cells_are_missing(folder):
    rows = [(r"C/C=C\\C", "one\r"), ("", "two"), ("C", "")]
    (folder / "chebi20" / "test.txt").write_text(text(rows), newline="")
    items = opened(folder).split("test").items
    assert items["molecule"] == [r"C/C=C\C", None, "C"]
    assert items["caption"] == ["one", "two", None]


def test_without_a_training_file_validation_can_serve_both(folder):
    (folder / "chebi20" / "train.txt").unlink()
    told = refusal(folder)
    assert told.startswith("FOLDER: holds no train.txt of ChEBI-20; expected is train.txt, ")
    assert told.endswith("or set train_from: validation")
    dataset = opened(folder, train_from="validation")
    ids = dataset.split("train").ids + dataset.split("validation").ids
    assert len(dataset.split("validation").ids) == 2
    assert ids == [f"validation.txt.gz:{row + 2} CID {row}" for row in range(20)]


def test_rows_that_do_not_fit_are_served_empty_where_asked_for(folder):
    rows = [("[As]C", "unknown symbol"), ("C(C", "no molecule"), ("CC", "x" * 21), ("CC", "fits")]
    (folder / "chebi20" / "test.txt").write_text(text(rows))
    usual = opened(folder, modalities=EVERY).split("test")
    assert usual.items["molecule"] == ["[As]C", "C(C", "CC", "CC"]
    lean = opened(folder, modalities=EVERY, unfit="leave_out").split("test")
    assert lean.ids == usual.ids
    assert lean.items["molecule"] == [None, None, None, "CC"]
    assert lean.items["caption"] == [None, None, None, "fits"]
    alone = opened(folder, modalities={"molecule": MOLECULE}, unfit="leave_out").split("test")
    assert alone.items["molecule"] == [None, None, "CC", "CC"]


def test_what_training_leaves_out_teaches_no_symbol(folder):
    rows = [*chains(30, "of"), ("[As]C", "x" * 21), ("C(C", "no molecule")]
    (folder / "chebi20" / "train.txt").write_text(text(rows))
    (folder / "chebi20" / "test.txt").write_text(text([("[As]C", "fits"), ("CC", "fits")]))
    dataset = opened(folder, modalities=EVERY, unfit="leave_out")
    assert dataset.split("train").items["molecule"][-3:] == ["C" * 30, None, None]
    assert dataset.split("test").items["molecule"] == [None, "CC"]


def test_training_of_which_nothing_fits_is_told(folder):
    (folder / "chebi20" / "train.txt").write_text(text([("C", "x" * 21)]))
    told = refusal(folder, modalities=EVERY, unfit="leave_out")
    assert told.startswith("FOLDER/chebi20/train.txt: a modality refuses every row of training")


def test_a_missing_folder_is_told(tmp_path):
    told = refusal(tmp_path / "no")
    assert told.startswith("FOLDER: is no folder that can be read; expected is train.txt")
    assert "ChEBI-20 comes from https://github.com/blender-nlp/MolT5" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "1: the header must be CID, SMILES, description, tab-separated"),
        (b"CID,SMILES,description\n", "1: the header must be CID, SMILES, description"),
        (f"{HEADER}\n1\tC".encode(), "2: has 2 cells, and 3 are wanted"),
        (f"{HEADER}\n1\tC\tx\n2\tC\t\xff".encode("latin-1"), "3: is not UTF-8 text: invalid"),
        (f"{HEADER}\n".encode(), " has no rows"),
    ],
)
def test_a_corrupt_file_is_named(folder, content, told):
    (folder / "chebi20" / "train.txt").write_bytes(content)
    assert refusal(folder).startswith(f"FOLDER/chebi20/train.txt:{told}")


def test_a_truncated_packed_file_is_named(folder):
    path = folder / "chebi20" / "validation.txt.gz"
    path.write_bytes(path.read_bytes()[:-9])
    told = refusal(folder, "validation")
    assert told.startswith("FOLDER/chebi20/validation.txt.gz: cannot be read, truncated or corrupt")


def test_the_fingerprint_follows_the_files(folder):
    before = opened(folder).fingerprint()
    (folder / "chebi20" / "train.txt").write_text(text(chains(31, "an alkane of")))
    assert opened(folder).fingerprint() != before


def test_it_keeps_its_contract(folder):
    records = check_dataset("captioned-molecules", {"folder": folder})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    caption = Text(TextConfig(max_bytes=320))
    molecule = Molecule(MoleculeConfig(latent_dim=8, max_symbols=64))
    modalities = {"molecule": molecule, "caption": caption}
    dataset = opened(
        real_data, modalities=modalities, train_from="validation", unfit="leave_out", train=300
    )
    told = {name: dataset.split(name) for name in ("train", "validation", "test")}
    assert {name: len(split.ids) for name, split in told.items()} == {
        "train": 300,
        "validation": 330,
        "test": 3300,
    }
    kept = [caption for caption in told["test"].items["caption"] if caption]
    assert len(kept) > 1000
    assert max(len(caption.encode()) for caption in kept) <= 320
