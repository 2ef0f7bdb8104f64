from __future__ import annotations

import os

import numpy as np
import pytest
from pydantic import ValidationError

from mld_core import DataError, Modality, ModalityConfig, PluginError, Registry
from mld_datasets.examples import Examples, ExamplesConfig
from mld_datasets.manifest import Manifest, ManifestConfig


class Word(Modality):
    """Raw: a string, in capitals."""

    kind = "word"
    Config = ModalityConfig
    inline = True
    preprocess = autoencoder = classifier = write = None

    def read(self, source):
        if source == "bad":
            raise ValueError("is no word")
        if source == "bug":
            raise KeyError("lost")
        return source.upper()

    def examples(self, labels, split, rng):
        if self.config.latent_dim == 99:
            raise KeyError("lost")
        wanted = labels[:-1] if self.config.latent_dim == 98 else labels
        return [f"{split}{label}-{rng.integers(10**9)}" for label in wanted]


class Page(Word):
    """Raw: the text of a file."""

    kind = "page"
    inline = False

    def read(self, source):
        if source.suffix == ".odd":
            raise ValueError("is odd")
        return source.read_text()


WORD, PAGE = Word(ModalityConfig(latent_dim=1)), Page(ModalityConfig(latent_dim=1))


def examples_of(*names: str, seed: int = 0, **sizes: int) -> Examples:
    return Examples(ExamplesConfig(**sizes), dict.fromkeys(names, WORD), seed)


def test_both_are_installed():
    registry = Registry()
    assert registry.dataset("examples") is Examples
    assert registry.dataset("manifest") is Manifest


def test_examples_are_balanced_and_sized():
    dataset = examples_of("a", train=200, validation=31, test=10)
    assert dataset.columns == {"a": "word"}
    assert dataset.classes == [str(digit) for digit in range(10)]
    train, validation = dataset.split("train"), dataset.split("validation")
    assert np.bincount(train.labels).tolist() == [20] * 10
    assert sorted(np.bincount(validation.labels).tolist()) == [3] * 9 + [4]
    assert train.labels != sorted(train.labels)
    assert [len(train.ids), len(train.items["a"]), len(dataset.split("test").ids)] == [200, 200, 10]
    assert [item.split("-")[0] for item in train.items["a"]] == [f"train{n}" for n in train.labels]


def test_examples_are_the_same_at_every_call():
    first, second = (examples_of("a", train=20).split("train") for _ in range(2))
    assert first.labels == second.labels
    assert list(first.items["a"]) == list(second.items["a"])
    assert len(set(first.ids)) == 20


def test_another_modality_changes_no_column():
    alone, beside = examples_of("b", train=20), examples_of("a", "b", train=20)
    assert list(alone.split("train").items["b"]) == list(beside.split("train").items["b"])
    assert list(beside.split("train").items["a"]) != list(beside.split("train").items["b"])


def test_seed_and_split_change_examples():
    draws = [
        examples_of("a", seed=seed, train=20, test=20).split(split)
        for seed, split in [(0, "train"), (1, "train"), (0, "test")]
    ]
    assert len({tuple(draw.labels) for draw in draws}) == 3
    numbers = [[item.split("-")[1] for item in draw.items["a"]] for draw in draws]
    assert len({tuple(own) for own in numbers}) == 3


@pytest.mark.parametrize(
    ("latent_dim", "expected"),
    [
        (99, "kind 'word': examples for the train split failed: KeyError: 'lost'"),
        (98, "kind 'word': examples for the train split are 3, but there are 4 labels"),
    ],
)
def test_broken_examples_are_named(latent_dim, expected):
    word = Word(ModalityConfig(latent_dim=latent_dim))
    items = Examples(ExamplesConfig(train=4), {"a": word}, 0).split("train").items["a"]
    assert len(items) == 4
    with pytest.raises(PluginError) as caught:
        _ = items[0]
    assert str(caught.value) == expected


@pytest.fixture
def manifest(tmp_path):
    """Opens a manifest of the given text, with the modalities `word` and `page`."""

    def manifest(
        text: str | bytes, name: str = "rows.csv", seed: int = 0, **modalities
    ) -> Manifest:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        wanted = modalities or {"word": WORD, "page": PAGE}
        return Manifest(ManifestConfig(path=path), wanted, seed)

    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"page {name}")
    return manifest


@pytest.fixture
def refused(manifest, tmp_path):
    """The complaints about a manifest, without its folder's name."""

    def refused(text, *args, **kwargs):
        with pytest.raises(DataError) as caught:
            manifest(text, *args, **kwargs)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return refused


CSV = """\
id,word,page,label,split,remark
r1,seven,a.txt,10,train,x
r2,"eight, or
so",,9,train,
r3,,b.txt,,train,
r4,nine,c.txt,9,test,
"""
JSONL = """\
{"id": "r1", "word": "seven", "page": "a.txt", "label": 10, "split": "train", "remark": {"x": 1}}
{"id": "r2", "word": "eight, or\\nso", "page": null, "label": "9", "split": "train"}

{"id": "r3", "page": "b.txt", "label": null, "split": "train"}
{"id": "r4", "word": "nine", "page": "c.txt", "label": 9, "split": "test"}
"""


@pytest.mark.parametrize(("name", "text"), [("rows.csv", CSV), ("rows.jsonl", JSONL)])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_manifest_is_read(manifest, name, text, mark):
    dataset = manifest(mark + text, name)
    assert dataset.columns == {"word": "word", "page": "page"}
    assert dataset.classes == ["9", "10"]
    train = dataset.split("train")
    assert train.ids == ["r1", "r2", "r3"]
    assert train.labels == [1, 0, -1]
    assert list(train.items["word"]) == ["SEVEN", "EIGHT, OR\nSO", None]
    assert list(train.items["page"]) == ["page a", None, "page b"]
    assert dataset.split("test").ids == ["r4"]
    assert dataset.split("validation").ids == []


def test_only_the_columns_of_the_spec_matter(manifest):
    dataset = manifest("word,page\nseven,nowhere.txt\n", word=WORD)
    assert list(dataset.split("train").items) == ["word"]


def test_files_are_read_when_indexed(manifest, tmp_path):
    pages = manifest("page\na.txt\n", page=PAGE).split("train").items["page"]
    (tmp_path / "a.txt").write_text("changed")
    assert pages[0] == "changed"


def test_without_the_special_columns(manifest):
    text = "word\n" + "".join(f"w{row}\n" for row in range(50))
    dataset = manifest(text, word=WORD)
    splits = [dataset.split(name) for name in ("train", "validation", "test")]
    assert [len(split.ids) for split in splits] == [40, 5, 5]
    assert sorted(id for split in splits for id in split.ids) == sorted(
        f"rows.csv:{line}" for line in range(2, 52)
    )
    assert dataset.classes == []
    assert splits[0].labels is None
    again, other = manifest(text, word=WORD), manifest(text, seed=1, word=WORD)
    assert again.split("test").ids == splits[2].ids != other.split("test").ids


def splits_of(manifest, text, **modalities) -> dict[str, list[int]]:
    """The places of the rows of each split, in a table from its second line."""
    dataset = manifest(text, **modalities)
    names = ("train", "validation", "test")
    told = {name: dataset.split(name).ids for name in names}
    return {name: [int(own.rpartition(":")[2]) - 2 for own in told[name]] for name in names}


def test_rows_that_share_a_file_are_in_one_split(manifest, tmp_path):
    for row in range(60):
        (tmp_path / f"p{row}.txt").write_text("")
    (tmp_path / "again.txt").symlink_to("p59.txt")
    # Two rows a file, by two names of one of them; each word is that of many rows.
    pages = [f"p{row // 2}" for row in range(100)] + ["p59", "again"]
    text = "word,page\n" + "".join(f"w,{page}.txt\n" for page in pages)
    drawn = splits_of(manifest, text)
    groups = {name: {row // 2 for row in rows} for name, rows in drawn.items()}
    assert [len(rows) for rows in drawn.values()] == [82, 10, 10]
    assert not groups["train"] & groups["validation"]
    assert not groups["test"] & (groups["train"] | groups["validation"])


def test_rows_are_joined_through_others(manifest):
    page = type(PAGE)(PAGE.config)
    rows = ["a,b", "b,c", ",c", ",", ",", ","]
    text = "page,twin\n" + "".join(
        ",".join(f"{own}.txt" if own else "" for own in row.split(",")) + "\n" for row in rows
    )
    drawn = splits_of(manifest, text, page=page, twin=page)
    assert [{0, 1, 2} <= set(rows) for rows in drawn.values()] == [True, False, False]


@pytest.mark.parametrize("rows", range(1, 12))
def test_a_small_manifest_has_all_splits_from_three_rows_on(manifest, rows):
    drawn = splits_of(manifest, "word\n" + "w\n" * rows, word=WORD)
    told = [len(own) for own in drawn.values()]
    assert told == ([rows - 2, 1, 1] if rows > 2 else [rows, 0, 0])


def test_where_every_file_is_in_many_rows_the_splits_have_one_each(manifest):
    text = "page\n" + "".join(f"{'abc'[row % 3]}.txt\n" for row in range(30))
    drawn = splits_of(manifest, text, page=PAGE)
    assert [len(rows) for rows in drawn.values()] == [10, 10, 10]
    assert [len({row % 3 for row in rows}) for rows in drawn.values()] == [1, 1, 1]


def test_class_names_that_are_not_all_numbers_are_in_alphabetical_order(manifest):
    dataset = manifest("word,label\na,10\nb,9\nc,x\n", word=WORD)
    assert dataset.classes == ["10", "9", "x"]


def test_the_lines_of_rows_with_line_breaks(manifest):
    dataset = manifest('word\n"a\nb"\n\nc\n', word=WORD)
    assert dataset.split("train").ids == ["rows.csv:2", "rows.csv:5"]


def test_the_fingerprint_sees_the_manifest_and_its_files(manifest, tmp_path):
    first = manifest(CSV).fingerprint()
    assert manifest(CSV).fingerprint() == first
    assert manifest(CSV, seed=1).fingerprint() != first
    assert manifest(CSV.replace("remark", "notice")).fingerprint() != first
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    touched = manifest(CSV).fingerprint()
    assert touched != first
    (tmp_path / "b.txt").write_text("longer than before")
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    assert manifest(CSV).fingerprint() not in (first, touched)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word,page\na,a.txt\nb\nc,b.txt,x\n", [
            "rows.csv:3: has 1 cells, but the header has 2",
            "rows.csv:4: has 3 cells, but the header has 2",
        ]),
        ("word,page,word\na,a.txt,b\n", ["rows.csv:1: the header names 'word' 2 times"]),
        ('word,page\na,a.txt\n"b"x,b.txt\n', [
            "rows.csv:3: is not CSV: ',' expected after '\"'"
        ]),
        ("id,word,page\nx,a,\ny,b,\nx,c,\n,d,\n", [
            "rows.csv:4: the id 'x' is already that of line 2",
            "rows.csv:5: has no id",
        ]),
        ("split,word,page\nval,a,\n,b,\n", [
            "rows.csv:2: the split must be one of train, validation, test, not 'val'",
            "rows.csv:3: the split must be one of train, validation, test, not ''",
        ]),
        ("word,page\na,none.txt\nb,a.txt\nc,sub/none.txt\n", [
            "rows.csv:2: column 'page': none.txt cannot be read: No such file or directory",
            "rows.csv:4: column 'page': sub/none.txt cannot be read: No such file or directory",
        ]),
        ("id,label,words,pages\nx,1,a,b\n", [
            "rows.csv: no column for word, page (columns here, besides id, label, split: words, "
            "pages); name the modalities like the columns"
        ]),
        ("id,label\nx,1\n", [
            "rows.csv: no column for word, page (columns here, besides id, label, split: none); "
            "name the modalities like the columns"
        ]),
        ("", ["rows.csv: has no rows"]),
        ("word,page\n", ["rows.csv: has no rows"]),
        (b"word,page\na,a.txt\n\xe9,b.txt\n", [
            "rows.csv:3: is not UTF-8 text: invalid continuation byte"
        ]),
    ],
)  # fmt: skip
def test_what_may_be_wrong_with_a_csv_file(refused, text, expected):
    assert refused(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"word": "a", "page": null}\n{"word": }\n', [
            "rows.jsonl:2: is not JSON: Expecting value at column 10"
        ]),
        ("[1]\n", ["rows.jsonl:1: is not a JSON object"]),
        ('{"word": "a", "page": null, "word": "b"}\n', ["rows.jsonl:1: names 'word' twice"]),
        ('{"word": 7, "page": null, "label": 1.5, "id": true}\n', [
            "rows.jsonl:1: the cell of column 'word' must be text, not 7",
            "rows.jsonl:1: the id must be text or a whole number, not True",
            "rows.jsonl:1: the label must be text or a whole number, not 1.5",
        ]),
        ('{"word": 0, "page": false}\n', [
            "rows.jsonl:1: the cell of column 'page' must be text, not False",
            "rows.jsonl:1: the cell of column 'word' must be text, not 0",
        ]),
    ],
)  # fmt: skip
def test_what_may_be_wrong_with_a_jsonl_file(refused, text, expected):
    assert refused(text, "rows.jsonl") == expected


def test_ten_faults_are_shown(refused):
    lines = refused("word,page\n" + "a,none.txt\n" * 13)
    assert (
        lines[9] == "rows.csv:11: column 'page': none.txt cannot be read: No such file or directory"
    )
    assert lines[10:] == ["... and 3 more"]


def test_the_manifest_itself(tmp_path):
    with pytest.raises(DataError) as caught:
        Manifest(ManifestConfig(path=tmp_path / "none.csv"), {"word": WORD}, 0)
    assert str(caught.value) == f"{tmp_path}/none.csv: cannot be read: No such file or directory"
    with pytest.raises(ValidationError, match=r"must be a file named \*\.csv or \*\.jsonl"):
        ManifestConfig(path="rows.tsv")


def test_items_that_cannot_be_read_name_their_source(manifest, tmp_path):
    (tmp_path / "a.odd").write_text("")
    items = manifest("word,page\nbad,a.odd\nbug,a.txt\n").split("train").items
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match="'bad': is no word"):
        _ = items["word"][0]
    with pytest.raises(ValueError, match=r"a\.odd: is odd"):
        _ = items["page"][0]
    with pytest.raises(ValueError, match=r"a\.txt: No such file or directory"):
        _ = items["page"][1]
    with pytest.raises(PluginError) as caught:
        _ = items["word"][1]
    assert str(caught.value) == "kind 'word': read of 'bug' failed: KeyError: 'lost'"
