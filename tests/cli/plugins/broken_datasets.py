"""Datasets with one defect each, which one check detects."""

from __future__ import annotations

import random
from pathlib import Path

from broken_configs import broken_configs
from broken_modalities import connect
from loud_to_import import LoudRows
from mld_tiny import Rows, RowsConfig
from pydantic import Field
from slow_to_import import SlowRows

from mld_core import SpecPath, Split, content_digest

BROKEN: dict[str, type[Rows]] = {"imports-quickly": SlowRows, "imports-quietly": LoudRows}
"""Check to a dataset that fails it."""

ALSO_FAILS: dict[str, set[str]] = {}
"""Check to the other checks that its dataset also fails."""


def breaks(check, *also):
    def decorate(cls):
        BROKEN[check], ALSO_FAILS[check] = cls, set(also)
        if check != "documented":
            cls.__doc__ = Rows.__doc__
        return cls

    return decorate


@breaks("documented")
class Undocumented(Rows):
    pass


for check, config in broken_configs(RowsConfig).items():
    breaks(check)(type(config.__name__, (Rows,), {"Config": config}))


@breaks("columns-have-installed-kinds")
class UnknownKind(Rows):
    @property
    def columns(self):
        return {"numbers": "tiny", "others": "of a kind that is not installed"}


@breaks("splits-have-all-columns", "...")
class WrongColumns(Rows):
    def split(self, name):
        return Split(self.ids(name), {"figures": self.items(name)}, self.labels(name))


@breaks("lengths-agree")
class TooManyItems(Rows):
    def items(self, name):
        return [*super().items(name), None]


@breaks("ids-are-unique")
class RepeatedIds(Rows):
    def ids(self, name):
        first, _, *others = super().ids(name)
        return [first, first, *others]


@breaks("splits-share-no-id")
class SharedIds(Rows):
    def ids(self, name):
        return [row_id.partition("-")[2] for row_id in super().ids(name)]


@breaks("labels-index-classes")
class UnknownLabel(Rows):
    def labels(self, name):
        return [9 if label == 0 else label for label in super().labels(name)]

    @property
    def classes(self):
        return tuple("012345678")


@breaks("same-seed-same-rows")
class Shuffling(Rows):
    def ids(self, name):
        return random.SystemRandom().sample(super().ids(name), self.config.rows)


@breaks("items-are-repeatable", "same-seed-same-rows")
class Noisy(Rows):
    def items(self, name):
        return _NoisyItems(super().items(name))


class _NoisyItems(list):
    def __getitem__(self, row):
        raw = super().__getitem__(row)
        return None if raw is None else [number + random.SystemRandom().random() for number in raw]


@breaks("items-fit-their-modality", "...")
class InvalidItems(Rows):
    def items(self, name):
        return [None if raw is None else ["a word", *raw] for raw in super().items(name)]


@breaks("fingerprint-follows-seed")
class ConstantFingerprint(Rows):
    def fingerprint(self):
        return "always the same"


class FileConfig(RowsConfig):
    """The file that is read."""

    path: SpecPath = Field(Path(__file__), description="any file")


@breaks("fingerprint-follows-files")
class ReadingAFile(Rows):
    Config = FileConfig

    def ids(self, name):
        self.config.path.read_text()
        return super().ids(name)


class FollowingAFile(ReadingAFile):
    """Rows."""

    def fingerprint(self):
        return content_digest(super().fingerprint(), [self.config.path])


@breaks("works-quietly")
class Printing(Rows):
    def ids(self, name):
        print("reading ids")
        return super().ids(name)


@breaks("needs-no-network")
class Downloading(Rows):
    def ids(self, name):
        connect()
        return super().ids(name)
