from __future__ import annotations

import csv
import gzip
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import selfies
import torch
from torch import Tensor, nn

from mld_core import SPLITS, LimitError, Registry
from mld_molecule import Molecule, MoleculeConfig
from mld_molecule.example_molecules import MAX_SELFIES_LENGTH, molecules, molecules_of
from mld_molecule.metrics import distribution_overlap
from mld_molecule.networks import COUNT_STD, LATENT_NOISE_STD
from mld_molecule.selfies_rdkit import (
    longest_valid_prefix,
    parse_smiles,
    selfies_to_smiles,
    smiles_to_selfies,
)
from mld_molecule.selfies_vocabulary import BASE_SYMBOLS, END, SelfiesVocabulary


def fitted(raw: list[str], latent_dim: int = 16, max_symbols: int | None = None) -> Molecule:
    config = MoleculeConfig(latent_dim=latent_dim, max_symbols=max_symbols)
    return Molecule(config, Molecule.fit(config, raw))


def examples(rows: int, split: str, seed: int = 0) -> tuple[list[str], list[int]]:
    labels = [row % 10 for row in range(rows)]
    modality = Molecule(MoleculeConfig(latent_dim=16))
    return modality.examples(labels, split, np.random.default_rng(seed)), labels


def rows_of(molecule: Molecule, raw: list[str]) -> Tensor:
    return torch.stack([molecule.preprocess(smiles) for smiles in raw])


def carbons(smiles: str) -> int:
    return sum(atom.GetSymbol() == "C" for atom in parse_smiles(smiles).GetAtoms())


@pytest.fixture(scope="module")
def molecule() -> Molecule:
    return fitted(examples(400, "train")[0])


@pytest.fixture(scope="module")
def rows(molecule: Molecule) -> Tensor:
    return rows_of(molecule, examples(60, "validation")[0])


def test_registry_finds_molecule() -> None:
    assert Registry().modality("molecule") is Molecule


def test_read_of_a_cell_gives_canonical_smiles(molecule: Molecule) -> None:
    assert molecule.read("OCC") == molecule.read(" C(C)O  ethanol") == "CCO"
    assert molecule.read("C1=CC=CC=C1") == "c1ccccc1"


def test_read_of_a_file_takes_the_first_word(molecule: Molecule, tmp_path: Path) -> None:
    path = tmp_path / "molecule.smi"
    path.write_text("OCC ethanol\nC methane\n")
    assert molecule.read(path) == "CCO"
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"expected a SMILES, but .* is empty"):
        molecule.read(path)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC", "unclosed ring"),
        ("C(C", "extra open parentheses"),
        ("CC(C)(C)(C)C", "Explicit valence for atom # 1 C, 5"),
        ("c1cccc1", "Can't kekulize"),
        ("sugar", "syntax error"),
        ("", "expected a SMILES"),
    ],
)
def test_invalid_smiles_error_has_the_reason(
    molecule: Molecule, capfd: pytest.CaptureFixture[str], smiles: str, reason: str
) -> None:
    with pytest.raises(ValueError, match="SMILES") as caught:
        molecule.read(smiles)
    assert repr(smiles) in str(caught.value)
    assert reason in str(caught.value)
    assert capfd.readouterr().err == ""


def test_rdkit_warnings_are_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    molecule = fitted(["[H+]"])
    rows = rows_of(molecule, [molecule.read("[H+]")])
    molecule.metrics()["qed"].measure(rows, rows[:0])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "smiles",
    [
        "C[N+](C)(C)C",
        "CC(=O)[O-]",
        "C[N+](=O)[O-]",
        "[Na+].[Cl-]",
        "[CH3]",
        "C[O]",
        "[C-]#[O+]",
        "[2H]C([2H])([2H])O",
        "N[C@@H](C)C(=O)O",
        "C/C=C\\C",
        "c1cc[nH]c1",
        "O=c1cc[nH]c2ccccc12",
        "C[C@H]1CC[C@@H](O)C1",
        "OB(O)c1ccccc1",
        "C[Se]C",
        "CS(C)(=O)=O",
    ],
)
def test_charges_radicals_isotopes_stereo_round_trip(smiles: str) -> None:
    molecule = fitted([smiles])
    canonical = molecule.read(smiles)
    assert molecule.cell(molecule.preprocess(smiles)) == canonical
    assert molecule.cell(molecule.preprocess(canonical)) == canonical


def test_examples_round_trip() -> None:
    sample = [smiles for label in range(10) for smiles in molecules(label)[::5]]
    molecule = fitted(sample)
    assert [molecule.cell(row) for row in rows_of(molecule, sample)] == sample


def test_facts() -> None:
    facts = Molecule.fit(MoleculeConfig(latent_dim=4), ["C[Se]C", "CCO"])
    assert facts["longest"] == 3
    assert set(facts["symbols"]) == {*BASE_SYMBOLS, "[Se]"}
    with pytest.raises(ValueError, match="no molecules"):
        Molecule.fit(MoleculeConfig(latent_dim=4), [])


def test_item_is_tokens_then_end_tokens() -> None:
    molecule = fitted(["CCCCCC"])
    row = molecule.preprocess("CCO")
    assert row.shape == (10,)
    assert row.dtype == torch.int64
    assert [molecule.facts["symbols"][token - 1] for token in row[:3]] == ["[C]", "[C]", "[O]"]
    assert (row[3:] == END).all()


def test_unknown_symbol_is_named(molecule: Molecule) -> None:
    with pytest.raises(ValueError, match=r"'C\[Se\]C' contains the SELFIES symbol \[Se\]"):
        molecule.preprocess("C[Se]C")


def test_molecule_that_selfies_cannot_express(molecule: Molecule) -> None:
    with pytest.raises(ValueError, match=r"SELFIES cannot express '\*C'"):
        molecule.preprocess("*C")


def test_too_long_molecule() -> None:
    smiles = "C" * 30
    with pytest.raises(ValueError, match="set max_symbols to 30 or more"):
        fitted(["CC"]).preprocess(smiles)
    assert fitted(["CC"], max_symbols=30).preprocess(smiles).shape == (30,)


def test_every_latent_decodes_to_a_molecule(molecule: Molecule) -> None:
    latents = 3 * torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        torch.manual_seed(seed)
        decoded = molecule.autoencoder().eval().decode(latents[seed::2])
        assert decoded.dtype == torch.int64
        assert all(parse_smiles(molecule.cell(row)).GetNumAtoms() > 0 for row in decoded)


def test_every_row_that_starts_with_an_atom_is_a_molecule() -> None:
    """Even with symbols whose valence SELFIES does not limit, and symbols without meaning."""
    symbols = (
        *BASE_SYMBOLS,
        "[Se]",
        "[S-1]",
        "[I+1]",
        "[CH0]",
        ".",
        "[nop]",
        "[=Ring3]",
        "[C@@H1]",
    )
    vocabulary = SelfiesVocabulary(symbols, length=24)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(len(symbols) + 1, (1000, 24), generator=generator)
    start_tokens = vocabulary.can_start().nonzero().flatten()
    tokens[:, 0] = start_tokens[torch.randint(len(start_tokens), (1000,), generator=generator)]
    assert all(parse_smiles(vocabulary.decode(row)).GetNumAtoms() > 0 for row in tokens)
    untruncated = [selfies_to_smiles(vocabulary.symbols_in(row)) for row in tokens]
    assert None in untruncated, "some rows must be invalid without truncation"


def test_rows_start_with_an_atom(molecule: Molecule) -> None:
    symbols = molecule.facts["symbols"]
    autoencoder = molecule.autoencoder()
    allowed = {symbols[token - 1] for token in autoencoder.can_start.nonzero().flatten()}
    assert END not in autoencoder.can_start.nonzero()
    assert "[C]" in allowed
    assert {symbol for symbol in symbols if "Branch" in symbol or "Ring" in symbol}.isdisjoint(
        allowed
    )
    with pytest.raises(ValueError, match="no prefix of the SELFIES '' is a molecule"):
        molecule.cell(torch.zeros_like(molecule.preprocess("C")))


def test_longest_valid_prefix() -> None:
    crowded = ("[C]", "[Si]", *["[Branch1]", "[C]", "[F]"] * 6)
    assert selfies_to_smiles(crowded) is None
    assert longest_valid_prefix(crowded) == "C[Si](F)(F)F"


def test_decoded_row_can_be_encoded_again(molecule: Molecule) -> None:
    symbols = tuple(molecule.facts["symbols"])
    vocabulary = SelfiesVocabulary(symbols, 12)
    row = torch.full((12,), END)
    fluorine, sulphur = (symbols.index(symbol) + 1 for symbol in ("[F]", "[S]"))
    branch, one = symbols.index("[Branch1]") + 1, symbols.index("[C]") + 1
    row[:6] = torch.tensor([fluorine, sulphur, branch, one, fluorine, fluorine])
    assert selfies_to_smiles(vocabulary.symbols_in(row)) == "F[SH](F)F"
    assert vocabulary.decode(row) == "FSF"
    vocabulary.encode(vocabulary.decode(row))


def test_only_end_tokens_follow_the_first(molecule: Molecule) -> None:
    decoded = molecule.autoencoder().eval().decode(torch.randn(500, 16))
    after = (decoded == END).cumsum(dim=1) > 0
    assert after.any()
    assert (decoded[after] == END).all()


def test_selfies_constraints_are_not_changed(molecule: Molecule, rows: Tensor) -> None:
    before = selfies.get_semantic_constraints()
    molecule.cell(rows[0])
    molecule.autoencoder()
    assert selfies.get_semantic_constraints() == before == selfies.get_preset_constraints("default")


def test_loss_value_at_zero_logits(molecule: Molecule, rows: Tensor) -> None:
    autoencoder = molecule.autoencoder()
    for layer in (autoencoder.to_logits[-1], autoencoder.to_composition[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    tokens = len(molecule.facts["symbols"]) + 1
    # The end token is predicted once, and symbols after it not at all.
    predicted = ((rows != END).sum(dim=1) + 1).clamp(max=rows.shape[1])
    symbols = predicted * math.log(tokens)
    counts = autoencoder.atoms_before(rows)[:, -1].square().sum(dim=1) / (2 * COUNT_STD**2)
    loss = autoencoder.loss(autoencoder.encode(rows), rows)
    torch.testing.assert_close(loss, symbols + counts)


def test_decoded_rows_have_the_predicted_composition(molecule: Molecule) -> None:
    autoencoder = molecule.autoencoder()
    composition = torch.zeros(200, autoencoder.atoms.shape[1])
    composition[:, 1], composition[:, 2] = torch.arange(200) % 5 + 1, torch.arange(200) % 3
    autoencoder.to_composition = nn.Module()
    autoencoder.to_composition.forward = lambda z: composition
    with torch.no_grad():
        last = autoencoder.to_logits[-1]
        last.weight.zero_()
        is_atom = autoencoder.atoms.any(dim=1)
        is_atom[END] = True
        last.bias.copy_(torch.where(is_atom, torch.rand(len(is_atom)), -50.0))
        decoded = autoencoder.decode(torch.randn(200, molecule.config.latent_dim))
    assert torch.equal(autoencoder.atoms_before(decoded)[:, -1], composition)


@pytest.mark.parametrize(
    "smiles",
    [
        "CC(=O)Oc1ccccc1C(=O)O",
        "CC(C)(C)C(C)(C)CCCCCCC(CCCCCCCCCCCCCCCCCCCC)O",
        "C1CC2CCC1CC2",
        "[NH4+].[Cl-]",
        "OCC(F)(Cl)Br",
    ],
)
def test_composition_equals_that_of_rdkit(smiles: str) -> None:
    molecule = fitted([smiles, "CCO"])
    autoencoder = molecule.autoencoder()
    vocabulary = SelfiesVocabulary(
        tuple(molecule.facts["symbols"]), rows_of(molecule, ["CCO"]).shape[1]
    )
    elements = vocabulary.atomic_numbers().unique()[1:].tolist()
    (counts,) = autoencoder.atoms_before(rows_of(molecule, [smiles]))[:, -1].long().tolist()
    atoms = Counter(atom.GetAtomicNum() for atom in parse_smiles(smiles).GetAtoms())
    assert {e: n for e, n in zip(elements, counts, strict=True) if n} == atoms


def test_latents_are_on_a_sphere_and_noisy_only_in_training(
    molecule: Molecule, rows: Tensor
) -> None:
    autoencoder = molecule.autoencoder().eval()
    z = autoencoder.encode(rows)
    assert torch.equal(z, autoencoder.encode(rows))
    assert z.square().mean(dim=1).tolist() == pytest.approx([1.0] * len(rows), abs=1e-4)
    torch.testing.assert_close(autoencoder.encode(rows[:1]), z[:1])
    noise = autoencoder.train().encode(rows) - z
    assert noise.std().item() == pytest.approx(LATENT_NOISE_STD, rel=0.15)


def test_latents_are_float32_under_autocast(molecule: Molecule, rows: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert molecule.autoencoder().encode(rows).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.long
def test_short_training(train_autoencoder, train_classifier) -> None:
    raw, labels = examples(1000, "train")
    molecule = fitted(raw, latent_dim=32)
    rows = rows_of(molecule, raw)
    test_rows = rows_of(molecule, examples(300, "test")[0])
    labels = torch.tensor(labels)
    torch.manual_seed(0)
    autoencoder, classifier = molecule.autoencoder(), molecule.classifier(10)
    train_autoencoder(autoencoder, rows, 600)
    train_classifier(classifier, rows, labels, 400)
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(test_rows))
        correct = classifier(test_rows).argmax(dim=1) == torch.arange(300) % 10
    before, after = (autoencoder.atoms_before(x)[:, -1] for x in (test_rows, decoded))
    assert (before == after).all(dim=1).float().mean() > 0.8
    assert (decoded == test_rows).float().mean() > 0.8
    assert correct.float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.long
def test_reconstructions_keep_the_label(train_autoencoder, train_classifier) -> None:
    raw, labels = examples(4000, "train")
    test_raw, test_labels = examples(1000, "test")
    molecule = fitted(raw, latent_dim=32)
    rows, test_rows = rows_of(molecule, raw), rows_of(molecule, test_raw)
    labels, test_labels = torch.tensor(labels), torch.tensor(test_labels)
    torch.manual_seed(0)
    autoencoder, classifier = molecule.autoencoder(), molecule.classifier(10)
    train_autoencoder(autoencoder, rows, 2000)
    train_classifier(classifier, rows, labels, 1000)
    with torch.no_grad():
        z = autoencoder.encode(test_rows)
        noisy = z + 0.2 * z.std(dim=0) * torch.randn_like(z)

        def accuracy(x: Tensor) -> float:
            return (classifier(x).argmax(dim=1) == test_labels).float().mean().item()

        assert accuracy(test_rows) >= 0.98
        assert accuracy(autoencoder.decode(z)) >= 0.95
        assert accuracy(autoencoder.decode(noisy)) >= 0.93


def test_set_metrics(molecule: Molecule) -> None:
    metrics = molecule.metrics()
    items = rows_of(molecule, ["CCO", "CCO", "CCN", "C"])
    others = rows_of(molecule, ["CCO", "CCCC", "CCN", "CC"])
    none = items[:0]
    assert metrics["uniqueness"].measure(items, none) == 0.75
    assert metrics["novelty"].measure(items, others) == pytest.approx(1 / 3)
    assert metrics["exact_match"].measure(items, others) == 0.5
    assert metrics["validity"].measure(items, none) == 1.0


def test_tanimoto_similarity_of_morgan_fingerprints(molecule: Molecule) -> None:
    metric = molecule.metrics()["tanimoto_similarity"]
    assert (metric.against, metric.better, metric.best) == ("truth", "higher", 1.0)
    items = rows_of(molecule, ["OCC", "C", "CCC"])
    truth = rows_of(molecule, ["CCO", "O", "CCCC"])
    # Equal molecules; no common environment; 3 of the 6 environments of propane and butane.
    values = [metric.measure(items[[i]], truth[[i]]) for i in range(3)]
    assert values == [1, 0, 0.5]
    assert metric.measure(items, truth) == 0.5
    with pytest.raises(ValueError, match="no molecules"):
        metric.measure(items[:0], truth)


def test_validity_counts_untruncated_selfies() -> None:
    molecule = fitted(["C[Si](F)(F)F"], max_symbols=30)
    symbols = molecule.facts["symbols"]
    crowded = [symbols.index(s) + 1 for s in ["[Si]", *["[Branch1]", "[C]", "[F]"] * 6]]
    row = torch.tensor(crowded + [END] * (30 - len(crowded)))
    rows = torch.stack([row, molecule.preprocess("C")])
    assert molecule.metrics()["validity"].measure(rows, rows[:0]) == 0.5


def test_chemistry_metrics_against_published_values() -> None:
    aspirin, benzene = "CC(=O)Oc1ccccc1C(=O)O", "c1ccccc1"
    molecule = fitted([aspirin, benzene])
    metrics, none = molecule.metrics(), torch.zeros(0, 1)
    assert metrics["qed"].measure(rows_of(molecule, [aspirin]), none) == pytest.approx(
        0.55, abs=0.01
    )
    assert metrics["sa_score"].measure(rows_of(molecule, [aspirin]), none) == pytest.approx(
        1.58, abs=0.01
    )
    both = rows_of(molecule, [aspirin, benzene])
    assert metrics["weight_overlap"].measure(both, both) == 1.0
    assert metrics["weight_overlap"].measure(both[:1], both[1:]) == 0.0
    assert metrics["logp_overlap"].measure(both, both[1:]) == 0.5


def test_chemistry_metrics_are_finite_on_examples(
    molecule: Molecule, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(molecule, [*molecules(0)[::3], *molecules(1)[::3]])
    values = {name: metric.measure(rows, rows) for name, metric in molecule.metrics().items()}
    assert all(math.isfinite(value) for value in values.values())
    assert capfd.readouterr().err == ""


def test_distribution_overlap_is_one_minus_kolmogorov_smirnov() -> None:
    assert distribution_overlap([1, 2, 3], [3, 2, 1]) == 1.0
    assert distribution_overlap([0, 1], [2, 3]) == 0.0
    assert distribution_overlap([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5


def test_written_item_reads_back_as_the_same_row(
    molecule: Molecule, rows: Tensor, tmp_path: Path
) -> None:
    path = molecule.write(rows[7], tmp_path / "row.7")
    assert path.suffix == ".smi"
    assert torch.equal(molecule.preprocess(molecule.read(path)), rows[7])
    assert molecule.read(molecule.cell(rows[7])) == molecule.cell(rows[7])


def test_preview_is_an_svg_drawing(molecule: Molecule, rows: Tensor, tmp_path: Path) -> None:
    (path,) = molecule.preview(rows[9], tmp_path / "row")
    assert len(ElementTree.fromstring(path.read_bytes()).findall("{*}path")) >= 9


@pytest.mark.parametrize("label", range(10))
def test_examples_have_as_many_carbons_as_their_label(label: int) -> None:
    distinct = molecules(label)
    assert len(distinct) == len(set(distinct)) >= (400 if label > 2 else 150)
    assert all(carbons(smiles) == label for smiles in distinct)
    assert all(len(molecules_of(label, split)) >= 8 for split in SPLITS)
    assert sorted(distinct) == sorted(s for split in SPLITS for s in molecules_of(label, split))


def test_examples_are_short_and_of_base_symbols() -> None:
    for label in range(10):
        for smiles in molecules(label)[::4]:
            symbols = smiles_to_selfies(smiles)
            assert len(symbols) <= MAX_SELFIES_LENGTH
            assert set(symbols) <= set(BASE_SYMBOLS)
            assert parse_smiles(smiles) is not None


def test_examples_follow_rng_and_repeat_evenly() -> None:
    raw, labels = examples(200, "train")
    assert raw == examples(200, "train")[0] != examples(200, "train", seed=1)[0]
    assert [carbons(smiles) for smiles in raw] == labels
    assert len(set(raw)) == len(raw)
    many, _ = examples(200, "validation")
    counts = [many.count(smiles) for smiles in molecules_of(2, "validation")]
    assert sum(counts) == 20
    assert max(counts) - min(counts) <= 1


def test_examples_are_the_same_in_every_process(warm_python: Callable[..., Any]) -> None:
    code = (
        "from mld_molecule.example_molecules import molecules_of; print(*molecules_of(5, 'test'))"
    )
    assert tuple(warm_python(code).stdout.split()) == molecules_of(5, "test")


@pytest.mark.parametrize("seed", range(5))
def test_vocabulary_of_few_examples_covers_held_out_ones(seed: int) -> None:
    molecule = fitted(examples(60, "train", seed)[0])
    rows_of(molecule, examples(200, "test", seed)[0])


REAL = {
    "esol/delaney-processed.csv": "smiles",
    "qm9_smiles/qm9_smiles.csv.gz": "smiles",
    "zinc250k_subset/test.txt.gz": None,
}


@pytest.mark.parametrize("name", REAL)
def test_real_molecules_round_trip(
    real_data: Path, name: str, record_property: pytest.RecordProperty
) -> None:
    path, column = real_data / name, REAL[name]
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        lines = file.read().splitlines()
    molecules = [row[column].strip() for row in csv.DictReader(lines)] if column else lines
    sample = molecules[:: max(1, len(molecules) // 1000)]
    molecule = fitted(sample)
    same = [
        molecule.cell(molecule.preprocess(smiles)) == molecule.read(smiles) for smiles in sample
    ]
    proportion = sum(same) / len(same)
    record_property("proportion_that_round_trips", proportion)
    assert proportion >= 0.999


def test_one_long_molecule_does_not_make_all_rows_long() -> None:
    short, long = ["CCO"] * 9, "C[Se]" + "C" * 298
    expected = r"^of 10 molecules, 1 need more than 7 .*, up to 300, but 99 % at most 3: .* 300 acc"
    with pytest.warns(UserWarning, match=expected):
        molecule = fitted([*short, long])
    assert molecule.preprocess("CCO").shape == (7,)
    assert "[Se]" not in molecule.facts["symbols"]
    with pytest.raises(LimitError, match="300 SELFIES symbols, more than the 7 that fit") as caught:
        molecule.preprocess(long)
    assert (caught.value.setting, caught.value.needed) == ("max_symbols", 300)


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        ([*["CCO"] * 9, "C" * 100], 110),
        ([*["C" * 75] * 99, "C" * 300], 330),
        (["C" * 300], 330),
        # The next longest leave room for it.
        ([*["CCO"] * 300, "C" * 100, "C" * 105], 110),
    ],
)
def test_long_molecules_that_have_room(
    raw: list[str], length: int, recwarn: pytest.WarningsRecorder
) -> None:
    molecule = fitted(raw)
    assert {molecule.preprocess(smiles).shape for smiles in raw} == {(length,)}
    assert not recwarn.list


def test_max_symbols_accepts_the_cost(recwarn: pytest.WarningsRecorder) -> None:
    molecule = fitted([*["CCO"] * 9, "C" * 300], max_symbols=300)
    assert molecule.preprocess("C" * 300).shape == (300,)
    assert fitted(["CCO", "[As]" + "C" * 20], max_symbols=5).facts == {
        "symbols": sorted(BASE_SYMBOLS),
        "longest": 5,
    }
    assert not recwarn.list


@pytest.mark.parametrize(
    ("smiles", "largest"),
    [
        ("CCO.Cl", "CCO"),
        ("[Na+].CC(=O)[O-]", "CC(=O)[O-]"),
        ("CO.CN", "CO"),
        ("CCO.COC", "COC"),
        ("OCC", "CCO"),
    ],
)
def test_largest_fragment(smiles: str, largest: str) -> None:
    config = MoleculeConfig(latent_dim=4, fragments="largest")
    assert Molecule(config).read(smiles) == largest
    reversed_smiles = ".".join(smiles.split(".")[::-1])
    assert Molecule(config).read(reversed_smiles) == largest


def test_other_policies_for_fragments() -> None:
    keep = Molecule(MoleculeConfig(latent_dim=4))
    assert keep.read("Cl.CCO") == "CCO.Cl"
    error = Molecule(MoleculeConfig(latent_dim=4, fragments="error"))
    assert error.read("OCC") == "CCO"
    with pytest.raises(ValueError, match=r"'CCO.Cl' holds several molecules: set fragments to"):
        error.read("Cl.CCO")


def test_unknown_symbols_are_skipped_with_a_warning() -> None:
    config = MoleculeConfig(latent_dim=4, unknown="skip")
    molecule = Molecule(config, Molecule.fit(config, ["CCO"]))
    with pytest.warns(UserWarning, match=r"^read without \[Se\], which no training molecule has"):
        row = molecule.preprocess("CC[Se]CO")
    assert molecule.cell(row) == "CCCO"
    with pytest.raises(ValueError, match=r"contains the SELFIES symbol \[Se\]"):
        molecule.preprocess("[Se]")


def test_scaffolds_are_split_keys() -> None:
    molecule = Molecule(MoleculeConfig(latent_dim=4))
    phenols = ["Oc1ccccc1", "CCc1ccc(O)cc1", "c1ccccc1"]
    assert {molecule.split_key(smiles) for smiles in phenols} == {"c1ccccc1"}
    assert molecule.split_key("c1ccc(CCc2ccncc2)cc1C") == "c1ccc(CCc2ccncc2)cc1"
    assert molecule.split_key("CCO") == molecule.split_key("C.Cl") == ""
