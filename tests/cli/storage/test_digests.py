from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mld.storage.digests import code_digest, source_digest

SOURCE = '''"""A plugin."""

WIDTH = 3
"""Of a layer."""


class Net:
    """A network."""

    def forward(self, x):
        """Scales x."""
        return x * WIDTH  # not the width of x
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# not the width of x", "# an explanation"),
        ('"""Of a layer."""', ""),
        ('"""Scales x."""', '"""Returns\n\n        x times a constant."""'),
        ("x * WIDTH", "(x\n            * WIDTH)"),
        ('"""A plugin."""', "# A plugin."),
    ],
)
def test_comments_docstrings_and_format_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert source_digest(SOURCE.replace(old, new)) == source_digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("WIDTH = 3", "WIDTH = 4"), ("x * WIDTH", "x + WIDTH"), ("Net", "Network")]
)
def test_code_counts(old: str, new: str) -> None:
    assert source_digest(SOURCE.replace(old, new)) != source_digest(SOURCE)


def test_digest_is_the_same_in_every_version_of_python() -> None:
    """Their parsers divide the texts of this f-string in three ways."""
    source = (
        f'{SOURCE}\nprint(f"{{1:>{{2}}}} a" " b" f"{{3!r}}{{4:.2f}}" "c", 1.5, b"x", None, ...)\n'
    )
    assert source_digest(source).startswith("019f51bca91e2506")


def test_a_function_may_consist_of_a_docstring() -> None:
    assert source_digest('def f():\n    """Nothing."""') == source_digest("def f():\n    pass")


def test_code_digest_covers_every_file_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest() -> str:
        for name in [name for name in sys.modules if name.startswith("some_plugin")]:
            del sys.modules[name]
        code_digest.cache_clear()
        return code_digest("some_plugin.part")

    before = digest()
    (package / "part.py").write_text(f"# a comment\n{SOURCE}")
    assert digest() == before
    (package / "part.py").write_text(SOURCE.replace("3", "4"))
    assert digest() != before
    (package / "part.py").write_text(SOURCE)
    (package / "more.py").write_text("")
    assert digest() != before
