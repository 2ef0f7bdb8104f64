"""Stage 0: the dataset to fitted modalities and readable rows."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from mld.config.spec import Spec
from mld.data.loading import Data, fit_modalities, load_modalities, open_dataset
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest
from mld_core import SPLITS, DataError, Modality, Registry

STAGE = "data"


@dataclass(frozen=True)
class Prepared:
    """Modalities that know their facts, and the rows; `is_new` where the run has no such marker."""

    modalities: dict[str, Modality]
    data: Data
    fingerprint: dict[str, JsonValue]
    is_new: bool


def prepare(spec: Spec, registry: Registry, context: RunContext) -> Prepared:
    """Everything read and checked, and nothing written: bad data leave no trace.

    A run that has finished this stage reads its facts back, and rows only when asked for them.
    """
    dataset = open_dataset(spec, registry)
    fingerprint: dict[str, JsonValue] = {
        "data": spec.data.model_dump(mode="json"),
        "modalities": {name: m.model_dump(mode="json") for name, m in spec.modalities.items()},
        "seed": spec.seed,
        "served": dataset.fingerprint(),
        "code": {
            kind: code_digest(registry.modality(kind).__module__)
            for kind in sorted({modality.kind for modality in spec.modalities.values()})
        },
    }
    run_dir = context.run_dir
    if run_dir.finished(STAGE, fingerprint):
        facts = {name: run_dir.read_json(run_dir.facts(name)) for name in spec.modalities}
        modalities = load_modalities(spec, registry, facts)
        return Prepared(modalities, Data(dataset, modalities), fingerprint, is_new=False)
    modalities = fit_modalities(spec, dataset, registry)
    data = Data(dataset, modalities)
    for split in SPLITS:
        data.split(split)
    if not data.test.ids:
        raise DataError(
            f"dataset {dataset.kind!r}: the test split has no rows, and a run is judged on them: "
            "give it some"
        )
    return Prepared(modalities, data, fingerprint, is_new=True)


def record(prepared: Prepared, context: RunContext) -> None:
    """Write what a new preparation found out."""
    run_dir = context.run_dir
    if not prepared.is_new:
        run_dir.log("stage", stage=STAGE, state="read back", seconds=0)
        return
    with run_dir.stage(STAGE) as seconds:
        for name, modality in prepared.modalities.items():
            run_dir.write_json(run_dir.facts(name), dict(modality.facts))
        rows = {split: len(prepared.data.split(split).ids) for split in SPLITS}
        dropped = {split: prepared.data.split(split).dropped for split in SPLITS}
        if any(dropped.values()):
            told = f"rows with nothing recorded are left out: {dropped}"
            run_dir.log("warning", stage=STAGE, message=told)
        if not rows["validation"]:
            told = "the validation split has no rows: no curve shows whether training goes too far"
            run_dir.log("warning", stage=STAGE, message=told)
        files = [run_dir.facts(name) for name in prepared.modalities]
        facts = {"rows": rows, "dropped": dropped, "classes": list(prepared.data.classes)}
        run_dir.finish(STAGE, prepared.fingerprint, files, seconds(), facts)
