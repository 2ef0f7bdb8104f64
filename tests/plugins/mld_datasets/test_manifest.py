from __future__ import annotations

import os
from contextlib import suppress

import pytest
import table_modalities
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mld_core import SPLITS, DataError, ModalityConfig, PluginError, Registry
from mld_datasets.manifest import Manifest, ManifestConfig


class Word(table_modalities.Word):
    """Some words cannot be read, and one is a bug."""

    def read(self, source):
        if source == "bad":
            raise ValueError("is not a word")
        if source == "bug":
            raise KeyError("lost")
        return super().read(source)


class Page(Word):
    """Raw: the text of a file."""

    kind = "page"
    inline = False

    def read(self, source):
        if source.suffix == ".odd":
            raise ValueError("is odd")
        return source.read_text()


WORD, PAGE = Word(ModalityConfig(latent_dim=1)), Page(ModalityConfig(latent_dim=1))


def test_dataset_is_installed():
    assert Registry().dataset("manifest") is Manifest


@pytest.fixture
def make_manifest(tmp_path):
    """Opens a manifest of the given text, with the modalities `word` and `page`."""

    def make_manifest(
        text: str | bytes, name: str = "rows.csv", seed: int = 0, settings=None, **modalities
    ) -> Manifest:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        modalities = modalities or {"word": WORD, "page": PAGE}
        return Manifest(ManifestConfig(path=path, **(settings or {})), modalities, seed)

    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"page {name}")
    return make_manifest


@pytest.fixture
def error_lines(make_manifest, tmp_path):
    """The lines of a manifest's error message, without its folder's name."""

    def error_lines(text, *args, **kwargs):
        with pytest.raises(DataError) as caught:
            make_manifest(text, *args, **kwargs)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return error_lines


def invalid(manifest: Manifest) -> dict[str, dict[int, str]]:
    """The cells of the training rows that cannot be read."""
    return manifest.split("train").invalid


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
def test_rows_are_read(make_manifest, name, text, mark):
    with pytest.warns(UserWarning, match=rf"/{name}: unused column 'remark'$"):
        dataset = make_manifest(mark + text, name)
    assert dataset.columns == {"word": "word", "page": "page"}
    assert dataset.classes == ["9", "10"]
    train = dataset.split("train")
    assert train.ids == ["r1", "r2", "r3"]
    assert train.labels == [1, 0, -1]
    assert list(train.items["word"]) == ["SEVEN", "EIGHT, OR\nSO", None]
    assert list(train.items["page"]) == ["page a", None, "page b"]
    assert dataset.split("test").ids == ["r4"]
    assert dataset.split("validation").ids == []


def test_unused_columns_are_named_and_ignored(make_manifest):
    others = ",".join(f"c{i}" for i in range(11))
    with pytest.warns(UserWarning, match="unused columns '', 'page', 'c0', .*'c7' and 3 more$"):
        dataset = make_manifest(f",word,page,{others}\n0,seven,nowhere.txt{',' * 11}\n", word=WORD)
    assert list(dataset.split("train").items) == ["word"]


def test_columns_to_ignore_are_no_misspellings_and_not_warned_of(tmp_path):
    (tmp_path / "rows.csv").write_text("word,labels,remark\na,b,c\n")
    config = ManifestConfig(path=tmp_path / "rows.csv", ignore=["labels", "remark"])
    assert list(Manifest(config, {"word": WORD}, 0).columns) == ["word"]
    with pytest.raises(DataError, match="unknown column 'labels'; did you mean 'label'"):
        Manifest(ManifestConfig(path=tmp_path / "rows.csv"), {"word": WORD}, 0)


@pytest.mark.parametrize("label", [" cat", "cat\u00a0", "cat\t"])
def test_white_space_around_labels_and_splits(make_manifest, label):
    dataset = make_manifest(f"word, label , split\na,cat, train\nb,{label},train \n", word=WORD)
    assert dataset.classes == ["cat"]
    assert dataset.split("train").labels == [0, 0]


def test_forms_of_unicode_are_one_class(make_manifest):
    dataset = make_manifest("word,label\na,caf\u00e9\nb,cafe\u0301\n", word=WORD)
    assert dataset.classes == ["caf\u00e9"]


def test_long_numbers_as_labels(make_manifest):
    dataset = make_manifest(f"word,label\na,{'9' * 5000}\nb,10\n", word=WORD)
    assert dataset.classes == ["10", "9" * 5000]


@pytest.mark.parametrize(
    ("cell", "file", "hint"),
    [
        (" p.txt", "p.txt", "'p.txt' exists, without white space around its name"),
        ("sub\\p.txt", "sub/p.txt", "'sub/p.txt' exists, with / in place of \\ in its path"),
        ("\u00e9.txt", "e\u0301.txt", "exists, with decomposed letters (Unicode NFD)"),
        ("e\u0301.txt", "\u00e9.txt", "exists, with composed letters (Unicode NFC)"),
        ("P.TXT", "p.txt", "'p.txt' exists, in other capitals"),
        ("sub/P.txt", "sub/p.txt", "'p.txt' exists, in other capitals"),
        ("q.txt", "p.txt", "No such file or directory"),
        ("x" * 300, "p.txt", "File name too long"),
        ("a\0.txt", "p.txt", r"'a\x00.txt' contains the character NUL"),
    ],
)
def test_files_of_other_spelling(make_manifest, tmp_path, cell, file, hint):
    (tmp_path / "sub").mkdir()
    (tmp_path / file).write_text("")
    assert invalid(make_manifest(f"page\n{cell}\n", page=PAGE))["page"][0].endswith(hint)


def test_files_are_read_when_indexed(make_manifest, tmp_path):
    pages = make_manifest("page\na.txt\n", page=PAGE).split("train").items["page"]
    (tmp_path / "a.txt").write_text("changed")
    assert pages[0] == "changed"


def test_without_reserved_columns(make_manifest):
    text = "word\n" + "".join(f"w{row}\n" for row in range(50))
    dataset = make_manifest(text, word=WORD)
    splits = [dataset.split(name) for name in SPLITS]
    assert [len(split.ids) for split in splits] == [40, 5, 5]
    assert sorted(id for split in splits for id in split.ids) == sorted(
        f"rows.csv:{line}" for line in range(2, 52)
    )
    assert dataset.classes == []
    assert splits[0].labels is None
    again, other = make_manifest(text, word=WORD), make_manifest(text, seed=1, word=WORD)
    assert again.split("test").ids == splits[2].ids != other.split("test").ids


def test_words_for_splits(make_manifest):
    words = ["train", "TRAIN", " Val", "valid", "dev", "Validation", "Test "]
    text = "word,split\n" + "".join(f"w,{word}\n" for word in words)
    drawn = split_rows(make_manifest, text, word=WORD)
    assert drawn == {"train": [0, 1], "validation": [2, 3, 4, 5], "test": [6]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [80, 10, 10]),
        ({"validation": 0.2, "test": 0.05}, [75, 20, 5]),
        ({"validation": 0}, [90, 0, 10]),
        ({"validation": 0, "test": 0}, [100, 0, 0]),
        ({"test": 0.001}, [89, 10, 1]),
        ({"test": 0.29}, [61, 10, 29]),
    ],
)
def test_shares_of_the_splits(make_manifest, settings, expected):
    text = "word\n" + "w\n" * 100
    drawn = split_rows(make_manifest, text, settings=settings, word=WORD)
    assert [len(rows) for rows in drawn.values()] == expected


def test_invalid_shares():
    with pytest.raises(ValidationError, match="must leave rows for training"):
        ManifestConfig(path="rows.csv", validation=0.5, test=0.5)


class Keyed(Word):
    """Raw: a string whose first letter is its split key; digits have none."""

    def split_key(self, raw):
        return None if raw[0].isdigit() else raw[0]


def test_split_by_a_column_that_is_no_modality(make_manifest, recwarn):
    text = "word,group\n" + "".join(f"w{row},g{row // 4}\n" for row in range(40))
    drawn = split_rows(make_manifest, text, settings={"split_by": "group"}, word=WORD)
    groups = {name: {row // 4 for row in rows} for name, rows in drawn.items()}
    assert [len(rows) for rows in drawn.values()] == [32, 4, 4]
    assert not groups["train"] & (groups["validation"] | groups["test"])
    assert not recwarn.list


@pytest.mark.parametrize(("modality", "groups"), [(WORD, 20), (Keyed(WORD.config), 10)])
def test_split_by_a_modality(make_manifest, modality, groups):
    # Twenty words of ten first letters, each twice; the empty, invalid and numbered ones are alone.
    words = [f"{'abcdefghij'[row % 10]}{row % 20}" for row in range(40)] + ["", "bad", "7", "7"]
    text = "id,word\n" + "".join(f"{row},{word}\n" for row, word in enumerate(words))
    manifest = make_manifest(text, settings={"split_by": "word"}, word=modality)
    split_of = {row_id: name for name in SPLITS for row_id in manifest.split(name).ids}
    assert len({(row % groups, split_of[str(row)]) for row in range(40)}) == groups
    assert {*split_of.values()} == {*SPLITS}


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("word\na\n", {"split_by": "words"}, "no column 'words', by which to split; did you mean"),
        ("word,split\na,train\n", {"split_by": "word"}, "beside which split_by cannot be set"),
        (
            "word,split\na,train\n",
            {"test": 0.2, "validation": 0.1},
            "validation, test cannot be set",
        ),
    ],
)
def test_errors_of_splitting(error_lines, text, settings, expected):
    (line,) = error_lines(text, settings=settings, word=WORD)
    assert expected in line


def split_rows(make_manifest, text, **modalities) -> dict[str, list[int]]:
    """The indices of each split's rows, in a table without ids."""
    dataset = make_manifest(text, **modalities)
    return {
        name: [int(row_id.rpartition(":")[2]) - 2 for row_id in dataset.split(name).ids]
        for name in SPLITS
    }


def test_rows_sharing_a_file_are_in_one_split(make_manifest, tmp_path):
    for row in range(60):
        (tmp_path / f"p{row}.txt").write_text("")
    (tmp_path / "again.txt").symlink_to("p59.txt")
    # Two rows per file; the last file has a second name, a link. All rows share one word.
    pages = [f"p{row // 2}" for row in range(100)] + ["p59", "again"]
    text = "word,page\n" + "".join(f"w,{page}.txt\n" for page in pages)
    drawn = split_rows(make_manifest, text)
    groups = {name: {row // 2 for row in rows} for name, rows in drawn.items()}
    assert [len(rows) for rows in drawn.values()] == [82, 10, 10]
    assert not groups["train"] & groups["validation"]
    assert not groups["test"] & (groups["train"] | groups["validation"])


def test_rows_sharing_files_indirectly(make_manifest):
    page = type(PAGE)(PAGE.config)
    rows = ["a,b", "b,c", ",c", ",", ",", ","]
    text = "page,twin\n" + "".join(
        ",".join(f"{name}.txt" if name else "" for name in row.split(",")) + "\n" for row in rows
    )
    drawn = split_rows(make_manifest, text, page=page, twin=page)
    assert [{0, 1, 2} <= set(rows) for rows in drawn.values()] == [True, False, False]


@pytest.mark.parametrize("rows", range(1, 12))
def test_every_split_has_a_row_from_three_rows_on(make_manifest, rows):
    drawn = split_rows(make_manifest, "word\n" + "w\n" * rows, word=WORD)
    sizes = [len(split) for split in drawn.values()]
    assert sizes == ([rows - 2, 1, 1] if rows > 2 else [rows, 0, 0])


def test_splits_of_few_large_groups(make_manifest):
    text = "page\n" + "".join(f"{'abc'[row % 3]}.txt\n" for row in range(30))
    drawn = split_rows(make_manifest, text, page=PAGE)
    assert [len(rows) for rows in drawn.values()] == [10, 10, 10]
    assert [len({row % 3 for row in rows}) for rows in drawn.values()] == [1, 1, 1]


def test_mixed_class_names_are_sorted_as_text(make_manifest):
    dataset = make_manifest("word,label\na,10\nb,9\nc,x\n", word=WORD)
    assert dataset.classes == ["10", "9", "x"]


def test_line_numbers_with_line_breaks_in_cells(make_manifest):
    dataset = make_manifest('word\n"a\nb"\n\nc\n', word=WORD)
    assert dataset.split("train").ids == ["rows.csv:2", "rows.csv:5"]


@pytest.mark.filterwarnings("ignore:.*unused column")
def test_fingerprint_covers_manifest_and_files(make_manifest, tmp_path):
    first = make_manifest(CSV).fingerprint()
    assert make_manifest(CSV).fingerprint() == first
    assert make_manifest(CSV, seed=1).fingerprint() != first
    assert make_manifest(CSV.replace("remark", "notice")).fingerprint() != first
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    touched = make_manifest(CSV).fingerprint()
    assert touched != first
    (tmp_path / "b.txt").write_text("longer than before")
    os.utime(tmp_path / "b.txt", ns=(1, 1))
    assert make_manifest(CSV).fingerprint() not in (first, touched)


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
        ("split,word,page\nheld,a,\n,b,\n", [
            "rows.csv:2: the split must be one of train, validation, test, not 'held'",
            "rows.csv:3: the split must be one of train, validation, test, not ''",
        ]),
        ("id,label,words,pages\nx,1,a,b\n", [
            "rows.csv: unknown column 'words'; did you mean 'word'? Rename or remove it",
            "rows.csv: unknown column 'pages'; did you mean 'page'? Rename or remove it",
        ]),
        ("id,label,text,\nx,1,a,b\n", [
            "rows.csv: no column for word, page (columns here, besides id, label, split: 'text', "
            "''); name the modalities like the columns, or set the `column` of a modality"
        ]),
        ("id,label\nx,1\n", [
            "rows.csv: no column for word, page (columns here, besides id, label, split: none); "
            "name the modalities like the columns, or set the `column` of a modality"
        ]),
        ("", ["rows.csv: has no rows"]),
        ("word,page\n", ["rows.csv: has no rows"]),
        (b"word,page\na,a.txt\n\xe9,b.txt\n", [
            "rows.csv:3: is not UTF-8 text, but perhaps Latin-1 or Windows-1252, in which it "
            "reads 'é': save it as UTF-8"
        ]),
    ],
)  # fmt: skip
def test_csv_errors(error_lines, text, expected):
    assert error_lines(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"word": "a", "page": null}\n{"word": }\n', [
            "rows.jsonl:2: is not JSON: Expecting value at column 10"
        ]),
        ("[1]\n", ["rows.jsonl:1: is not a JSON object"]),
        ('{"word": "a", "page": null, "word": "b"}\n', ["rows.jsonl:1: names 'word' twice"]),
        ('{"word": "a", "page": null, "label": 1.5, "id": true}\n', [
            "rows.jsonl:1: the id must be text or a whole number, not True",
            "rows.jsonl:1: the label must be text or a whole number, not 1.5",
        ]),
    ],
)  # fmt: skip
def test_jsonl_errors(error_lines, text, expected):
    assert error_lines(text, "rows.jsonl") == expected


def test_unreadable_cells_are_known_before_any_is_read(make_manifest, tmp_path):
    rows = [("train", "a.txt"), ("test", "none.txt"), ("train", "b.txt"), ("train", "sub/none.txt")]
    manifest = make_manifest("split,page\n" + "".join(f"{a},{b}\n" for a, b in rows), page=PAGE)
    missing = f"{tmp_path}/{{}} cannot be read: No such file or directory"
    assert invalid(manifest) == {"page": {2: missing.format("sub/none.txt")}}
    assert manifest.split("test").invalid == {"page": {0: missing.format("none.txt")}}
    assert manifest.split("train").present == {"page": [True, True, True]}


def test_unreadable_cells_of_jsonl(make_manifest):
    lines = ['{"word": [7], "page": null}', '{"word": {}, "page": false}']
    assert invalid(make_manifest("\n".join(lines), "rows.jsonl")) == {
        "word": {
            0: "the cell must be text, a number, true or false, not [7]",
            1: "the cell must be text, a number, true or false, not {}",
        },
        "page": {1: "the cell must be a file's name, not False"},
    }


def test_numbers_and_truth_values_of_jsonl_are_read_as_they_are(make_manifest):
    cells = ["7", "1.5", "-1e-07", "true", "false", '"true"', "NaN", "null", '""']
    lines = [f'{{"word": {cell}, "split": "train"}}' for cell in cells]
    items = make_manifest("\n".join(lines), "rows.jsonl", word=WORD).split("train").items["word"]
    expected = ["7", "1.5", "-1E-07", "TRUE", "FALSE", "TRUE", "NAN", None, None]
    assert list(items) == expected


def test_ten_errors_are_shown(error_lines):
    lines = error_lines("word,page\n" + "a\n" * 13)
    assert lines[9] == "rows.csv:11: has 1 cells, but the header has 2"
    assert lines[10:] == ["... and 3 more"]


CELLS = st.sampled_from(
    ["", "a.txt", " a.txt", "7", "nan", "train", "\0", "x;y", '"', "\ud7ff", "é"]
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6), min_size=1, max_size=6)
HEADERS = st.sampled_from([["word"], ["word", "label"], ["id", "word", "split"], ["word", "page"]])


@pytest.mark.filterwarnings("ignore:.*unused column")
@given(HEADERS, ROWS, st.sampled_from(",;\t"), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_is_a_dataset_or_an_error(make_manifest, header, rows, separator, encoding):
    lines = "\n".join(separator.join(row) for row in (header, *rows))
    with suppress(DataError):
        dataset = make_manifest(lines.encode(encoding, "replace"))
        for split in map(dataset.split, SPLITS):
            for column, items in split.items.items():
                read = [items[row] for row in range(len(items)) if row not in split.invalid[column]]
                assert len(read) + len(split.invalid[column]) == len(split.ids)


def test_unreadable_manifest_and_wrong_suffix(tmp_path):
    with pytest.raises(DataError) as caught:
        Manifest(ManifestConfig(path=tmp_path / "none.csv"), {"word": WORD}, 0)
    assert str(caught.value) == f"{tmp_path}/none.csv: cannot be read: No such file or directory"
    with pytest.raises(
        ValidationError, match=r"must be a file named \*\.csv, \*\.tsv or \*\.jsonl"
    ):
        ManifestConfig(path="rows.txt")
    with pytest.raises(ValidationError, match="; it may be of kind: parquet"):
        ManifestConfig(path="rows.parquet")


def test_read_error_names_the_source(make_manifest, tmp_path):
    (tmp_path / "a.odd").write_text("")
    items = make_manifest("word,page\nbad,a.odd\nbug,a.txt\n").split("train").items
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match="'bad': is not a word"):
        _ = items["word"][0]
    with pytest.raises(ValueError, match=r"a\.odd: is odd"):
        _ = items["page"][0]
    with pytest.raises(ValueError, match=r"a\.txt: No such file or directory"):
        _ = items["page"][1]
    with pytest.raises(PluginError) as caught:
        _ = items["word"][1]
    assert str(caught.value) == "kind 'word': read of 'bug' failed: KeyError: 'lost'"


def test_an_item_must_be_a_regular_file(make_manifest, tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    manifest = make_manifest("word,page\nx,a.txt\nx,pipe.txt\nx,zero.txt\nx,.\n")
    reasons = [
        reason for split in SPLITS for reason in manifest.split(split).invalid["page"].values()
    ]
    assert {reason.partition(" cannot be read: ")[2] for reason in reasons} == {
        "it is a named pipe, not a regular file",
        "it is a device, not a regular file",
        "Is a directory",
    }
