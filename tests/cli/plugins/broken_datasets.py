"""Datasets that are right but for one thing, each of which one check is there to see."""

from __future__ import annotations

import random

from broken_modalities import reaching_out
from loud_to_import import LoudRows
from mld_tiny import Rows, RowsConfig
from pydantic import ConfigDict, Field, field_serializer
from pydantic.json_schema import SkipJsonSchema
from slow_to_import import SlowRows

from mld_core import Split

BROKEN: dict[str, type[Rows]] = {"imports-quickly": SlowRows, "imports-quietly": LoudRows}
"""Check to a dataset that fails it."""

ALSO: dict[str, set[str]] = {}
"""Check to the others that its dataset cannot but fail too."""


def breaks(check, *also):
    def enter(cls):
        BROKEN[check], ALSO[check] = cls, set(also)
        if check != "documented":
            cls.__doc__ = Rows.__doc__
        return cls

    return enter


@breaks("documented")
class Undocumented(Rows):
    pass


@breaks("config-round-trip")
class Rounding(Rows):
    class Config(RowsConfig):
        share: float = Field(0.25, description="dumped as a whole number")

        @field_serializer("share")
        def _rounded(self, share):
            return round(share)


@breaks("config-schema")
class Hidden(Rows):
    class Config(RowsConfig):
        hidden: SkipJsonSchema[int] = Field(1, description="not in the schema")


@breaks("config-described")
class Silent(Rows):
    class Config(RowsConfig):
        depth: int = 2


@breaks("config-closed")
class Open(Rows):
    class Config(RowsConfig):
        model_config = ConfigDict(extra="ignore", frozen=True)


@breaks("config-frozen")
class Thawed(Rows):
    class Config(RowsConfig):
        model_config = ConfigDict(extra="forbid", frozen=False)


@breaks("columns-of-known-kinds")
class Foreign(Rows):
    @property
    def columns(self):
        return {"numbers": "tiny", "others": "of a kind that nobody has"}


@breaks("splits-serve-columns", "...")
class Misnaming(Rows):
    def split(self, name):
        return Split(self.ids(name), {"figures": self.items(name)}, self.labels(name))


@breaks("lengths-agree")
class Long(Rows):
    def items(self, name):
        return [*super().items(name), None]


@breaks("ids-are-unique")
class Repeating(Rows):
    def ids(self, name):
        first, _, *others = super().ids(name)
        return [first, first, *others]


@breaks("splits-share-no-id")
class Sharing(Rows):
    def ids(self, name):
        return [told.partition("-")[2] for told in super().ids(name)]


@breaks("labels-are-classes")
class Mislabelled(Rows):
    def labels(self, name):
        return [9 if label == 0 else label for label in super().labels(name)]

    @property
    def classes(self):
        return tuple("012345678")


@breaks("same-seed-same-rows")
class Shuffling(Rows):
    def ids(self, name):
        return random.SystemRandom().sample(super().ids(name), self.config.rows)


@breaks("items-read-twice-alike", "same-seed-same-rows")
class Restless(Rows):
    def items(self, name):
        return _Restless(super().items(name))


class _Restless(list):
    def __getitem__(self, row):
        one = super().__getitem__(row)
        return None if one is None else [number + random.SystemRandom().random() for number in one]


@breaks("items-fit-their-modality", "...")
class Unfit(Rows):
    def items(self, name):
        return [None if one is None else ["a word", *one] for one in super().items(name)]


@breaks("fingerprint-follows-what-is-served")
class Indifferent(Rows):
    def fingerprint(self):
        return "always the same"


@breaks("works-quietly")
class Chatty(Rows):
    def ids(self, name):
        print("naming")
        return super().ids(name)


@breaks("needs-no-network")
class Downloading(Rows):
    def ids(self, name):
        reaching_out()
        return super().ids(name)
