from __future__ import annotations

import csv
import gzip
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import selfies
import torch
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Registry
from mld_molecule import Molecule
from mld_molecule.examples import LONGEST, molecules, molecules_of
from mld_molecule.metrics import distribution_overlap
from mld_molecule.modality import MoleculeConfig
from mld_molecule.networks import COUNT_STD, NOISE
from mld_molecule.selfies_rdkit import nearest_smiles, parse, selfies_smiles, selfies_symbols
from mld_molecule.selfies_vocabulary import BASE_SYMBOLS, END, Alphabet

SPLITS = ("train", "validation", "test")


def fitted(raw: list[str], latent_dim: int = 16, max_symbols: int | None = None) -> Molecule:
    config = MoleculeConfig(latent_dim=latent_dim, max_symbols=max_symbols)
    return Molecule(config, Molecule.fit(config, raw))


def drawn(rows: int, split: str, seed: int = 0) -> tuple[list[str], list[int]]:
    labels = [row % 10 for row in range(rows)]
    unfitted = Molecule(MoleculeConfig(latent_dim=16))
    return unfitted.examples(labels, split, np.random.default_rng(seed)), labels


def rows_of(molecule: Molecule, raw: list[str]) -> Tensor:
    return torch.stack([molecule.preprocess(smiles) for smiles in raw])


def carbons(smiles: str) -> int:
    return sum(atom.GetSymbol() == "C" for atom in parse(smiles).GetAtoms())


def trained(module, loss, rows: Tensor, labels: Tensor, steps: int):
    """The module after `steps` of Adam with a cosine decay, in eval mode."""
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (128,), generator=generator)
        optimiser.zero_grad()
        loss(rows[chosen], labels[chosen]).backward()
        optimiser.step()
        decay.step()
    return module.eval()


@pytest.fixture(scope="module")
def molecule() -> Molecule:
    return fitted(drawn(400, "train")[0])


@pytest.fixture(scope="module")
def rows(molecule: Molecule) -> Tensor:
    return rows_of(molecule, drawn(60, "validation")[0])


def test_the_registry_finds_the_plugin() -> None:
    assert Registry().modality("molecule") is Molecule


def test_a_cell_is_read_as_canonical_smiles(molecule: Molecule) -> None:
    assert molecule.read("OCC") == molecule.read(" C(C)O  ethanol") == "CCO"
    assert molecule.read("C1=CC=CC=C1") == "c1ccccc1"


def test_a_file_is_read_by_its_first_word(molecule: Molecule, tmp_path: Path) -> None:
    path = tmp_path / "molecule.smi"
    path.write_text("OCC ethanol\nC methane\n")
    assert molecule.read(path) == "CCO"
    path.write_text("\n")
    with pytest.raises(ValueError, match="nothing stands in"):
        molecule.read(path)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC", "unclosed ring"),
        ("C(C", "extra open parentheses"),
        ("CC(C)(C)(C)C", "Explicit valence for atom # 1 C, 5"),
        ("c1cccc1", "Can't kekulize"),
        ("sugar", "syntax error"),
        ("", "a SMILES is expected"),
    ],
)
def test_an_invalid_smiles_is_quoted_with_its_reason_and_no_noise(
    molecule: Molecule, capfd: pytest.CaptureFixture[str], smiles: str, reason: str
) -> None:
    with pytest.raises(ValueError, match="SMILES") as caught:
        molecule.read(smiles)
    assert repr(smiles) in str(caught.value)
    assert reason in str(caught.value)
    assert capfd.readouterr().err == ""


def test_what_rdkit_only_warns_of_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
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
def test_charges_radicals_isotopes_and_stereo_round_trip(smiles: str) -> None:
    molecule = fitted([smiles])
    canonical = molecule.read(smiles)
    assert molecule.cell(molecule.preprocess(smiles)) == canonical
    assert molecule.cell(molecule.preprocess(canonical)) == canonical


def test_examples_round_trip() -> None:
    everything = [smiles for label in range(10) for smiles in molecules(label)[::5]]
    molecule = fitted(everything)
    assert [molecule.cell(row) for row in rows_of(molecule, everything)] == everything


def test_facts_are_the_symbols_and_the_longest_length() -> None:
    facts = Molecule.fit(MoleculeConfig(latent_dim=4), ["C[Se]C", "CCO"])
    assert facts["longest"] == 3
    assert set(facts["symbols"]) == {*BASE_SYMBOLS, "[Se]"}
    with pytest.raises(ValueError, match="no molecules"):
        Molecule.fit(MoleculeConfig(latent_dim=4), [])


def test_an_item_is_a_row_of_tokens_that_its_end_fills() -> None:
    molecule = fitted(["CCCCCC"])
    row = molecule.preprocess("CCO")
    assert row.shape == (10,)
    assert row.dtype == torch.int64
    assert [molecule.facts["symbols"][token - 1] for token in row[:3]] == ["[C]", "[C]", "[O]"]
    assert (row[3:] == END).all()


def test_an_unknown_symbol_is_named(molecule: Molecule) -> None:
    with pytest.raises(ValueError, match=r"'C\[Se\]C' needs the SELFIES symbol \[Se\]"):
        molecule.preprocess("C[Se]C")


def test_what_selfies_cannot_express_is_refused(molecule: Molecule) -> None:
    with pytest.raises(ValueError, match=r"SELFIES cannot express '\*C'"):
        molecule.preprocess("*C")


def test_a_long_molecule_names_the_setting_that_fits_it() -> None:
    long = "C" * 30
    with pytest.raises(ValueError, match="set max_symbols to 30 or more"):
        fitted(["CC"]).preprocess(long)
    assert fitted(["CC"], max_symbols=30).preprocess(long).shape == (30,)


def test_every_latent_decodes_to_a_molecule(molecule: Molecule) -> None:
    latents = 3 * torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        torch.manual_seed(seed)
        decoded = molecule.autoencoder().eval().decode(latents[seed::2])
        assert decoded.dtype == torch.int64
        assert all(parse(molecule.cell(row)).GetNumAtoms() > 0 for row in decoded)


def test_every_row_with_a_first_atom_is_a_molecule() -> None:
    """Even over symbols whose valence SELFIES does not bound, and those that stand for nothing."""
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
    alphabet = Alphabet(symbols, length=24)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(len(symbols) + 1, (1000, 24), generator=generator)
    starts = alphabet.starts().nonzero().flatten()
    tokens[:, 0] = starts[torch.randint(len(starts), (1000,), generator=generator)]
    assert all(parse(alphabet.smiles(row)).GetNumAtoms() > 0 for row in tokens)
    whole = [selfies_smiles(alphabet.written(row)) for row in tokens]
    assert None in whole, "the rows should try the rule that shortens"


def test_a_row_may_begin_with_an_atom_only(molecule: Molecule) -> None:
    symbols = molecule.facts["symbols"]
    autoencoder = molecule.autoencoder()
    allowed = {symbols[token - 1] for token in autoencoder.starts.nonzero().flatten()}
    assert END not in autoencoder.starts.nonzero()
    assert "[C]" in allowed
    assert {symbol for symbol in symbols if "Branch" in symbol or "Ring" in symbol}.isdisjoint(
        allowed
    )
    with pytest.raises(ValueError, match="begins with the end"):
        molecule.cell(torch.zeros_like(molecule.preprocess("C")))


def test_the_longest_valid_beginning_is_kept() -> None:
    crowded = ("[C]", "[Si]", *["[Branch1]", "[C]", "[F]"] * 6)
    assert selfies_smiles(crowded) is None
    assert nearest_smiles(crowded) == "C[Si](F)(F)F"


def test_what_is_written_can_be_read_again(molecule: Molecule) -> None:
    symbols = tuple(molecule.facts["symbols"])
    alphabet = Alphabet(symbols, 12)
    row = torch.full((12,), END)
    fluorine, sulphur = (symbols.index(symbol) + 1 for symbol in ("[F]", "[S]"))
    branch, one = symbols.index("[Branch1]") + 1, symbols.index("[C]") + 1
    row[:6] = torch.tensor([fluorine, sulphur, branch, one, fluorine, fluorine])
    assert selfies_smiles(alphabet.written(row)) == "F[SH](F)F"
    assert alphabet.smiles(row) == "FSF"
    alphabet.tokens(alphabet.smiles(row))


def test_nothing_follows_the_end(molecule: Molecule) -> None:
    decoded = molecule.autoencoder().eval().decode(torch.randn(500, 16))
    after = (decoded == END).cumsum(dim=1) > 0
    assert after.any()
    assert (decoded[after] == END).all()


def test_selfies_constraints_stay_as_they_are(molecule: Molecule, rows: Tensor) -> None:
    before = selfies.get_semantic_constraints()
    molecule.cell(rows[0])
    molecule.autoencoder()
    assert selfies.get_semantic_constraints() == before == selfies.get_preset_constraints("default")


def test_the_loss_counts_nats(molecule: Molecule, rows: Tensor) -> None:
    autoencoder = molecule.autoencoder()
    for last in (autoencoder.to_logits[-1], autoencoder.to_composition[-1]):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    tokens = len(molecule.facts["symbols"]) + 1
    symbols = rows.shape[1] * math.log(tokens)
    counts = autoencoder.atoms_before(rows)[:, -1].square().sum(dim=1) / (2 * COUNT_STD**2)
    loss = autoencoder.loss(autoencoder.encode(rows), rows)
    torch.testing.assert_close(loss, symbols + counts)


def test_what_is_written_has_the_composition_that_the_latent_tells(molecule: Molecule) -> None:
    autoencoder = molecule.autoencoder()
    told = torch.zeros(200, autoencoder.atoms.shape[1])
    told[:, 1], told[:, 2] = torch.arange(200) % 5 + 1, torch.arange(200) % 3
    autoencoder.to_composition = nn.Module()
    autoencoder.to_composition.forward = lambda z: told
    with torch.no_grad():
        last = autoencoder.to_logits[-1]
        last.weight.zero_()
        is_atom = autoencoder.atoms.any(dim=1)
        is_atom[END] = True
        last.bias.copy_(torch.where(is_atom, torch.rand(len(is_atom)), -50.0))
        written = autoencoder.decode(torch.randn(200, molecule.config.latent_dim))
    assert torch.equal(autoencoder.atoms_before(written)[:, -1], told)


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
def test_composition_counts_atoms_as_rdkit_does(smiles: str) -> None:
    molecule = fitted([smiles, "CCO"])
    autoencoder = molecule.autoencoder()
    alphabet = Alphabet(tuple(molecule.facts["symbols"]), rows_of(molecule, ["CCO"]).shape[1])
    elements = alphabet.atomic_numbers().unique()[1:].tolist()
    (counted,) = autoencoder.atoms_before(rows_of(molecule, [smiles]))[:, -1].long().tolist()
    atoms = Counter(atom.GetAtomicNum() for atom in parse(smiles).GetAtoms())
    assert {e: n for e, n in zip(elements, counted, strict=True) if n} == atoms


def test_latents_have_unit_mean_square_and_noise_in_training_only(
    molecule: Molecule, rows: Tensor
) -> None:
    autoencoder = molecule.autoencoder().eval()
    z = autoencoder.encode(rows)
    assert torch.equal(z, autoencoder.encode(rows))
    assert z.square().mean(dim=1).tolist() == pytest.approx([1.0] * len(rows), abs=1e-4)
    torch.testing.assert_close(autoencoder.encode(rows[:1]), z[:1])
    noise = autoencoder.train().encode(rows) - z
    assert noise.std().item() == pytest.approx(NOISE, rel=0.15)


def test_latents_are_float32_under_autocast(molecule: Molecule, rows: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert molecule.autoencoder().encode(rows).dtype == torch.float32


def test_a_short_training_learns_to_rebuild_and_to_count() -> None:
    raw, labels = drawn(1000, "train")
    molecule = fitted(raw, latent_dim=32)
    rows = rows_of(molecule, raw)
    unseen = rows_of(molecule, drawn(300, "test")[0])
    wanted = torch.tensor(labels)
    torch.manual_seed(0)
    autoencoder, classifier = molecule.autoencoder(), molecule.classifier(10)
    trained(
        autoencoder,
        lambda x, _: autoencoder.loss(autoencoder.encode(x), x).mean(),
        rows,
        wanted,
        600,
    )
    trained(classifier, lambda x, y: functional.cross_entropy(classifier(x), y), rows, wanted, 400)
    with torch.no_grad():
        rebuilt = autoencoder.decode(autoencoder.encode(unseen))
        right = classifier(unseen).argmax(dim=1) == torch.arange(300) % 10
    before, after = (autoencoder.atoms_before(x)[:, -1] for x in (unseen, rebuilt))
    assert (before == after).all(dim=1).float().mean() > 0.8
    assert (rebuilt == unseen).float().mean() > 0.8
    assert right.float().mean() > 0.9


@pytest.mark.slow
def test_labels_survive_reconstruction_and_small_noise() -> None:
    raw, labels = drawn(4000, "train")
    unseen_raw, unseen_labels = drawn(1000, "test")
    molecule = fitted(raw, latent_dim=32)
    rows, unseen = rows_of(molecule, raw), rows_of(molecule, unseen_raw)
    wanted, unseen_wanted = torch.tensor(labels), torch.tensor(unseen_labels)
    torch.manual_seed(0)
    autoencoder, classifier = molecule.autoencoder(), molecule.classifier(10)
    trained(
        autoencoder,
        lambda x, _: autoencoder.loss(autoencoder.encode(x), x).mean(),
        rows,
        wanted,
        2000,
    )
    trained(classifier, lambda x, y: functional.cross_entropy(classifier(x), y), rows, wanted, 1000)
    with torch.no_grad():
        z = autoencoder.encode(unseen)
        noisy = z + 0.2 * z.std(dim=0) * torch.randn_like(z)

        def share(x: Tensor) -> float:
            return (classifier(x).argmax(dim=1) == unseen_wanted).float().mean().item()

        assert share(unseen) >= 0.98
        assert share(autoencoder.decode(z)) >= 0.95
        assert share(autoencoder.decode(noisy)) >= 0.93


def test_set_metrics_against_counts_by_hand(molecule: Molecule) -> None:
    metrics = molecule.metrics()
    items = rows_of(molecule, ["CCO", "CCO", "CCN", "C"])
    others = rows_of(molecule, ["CCO", "CCCC", "CCN", "CC"])
    none = items[:0]
    assert metrics["uniqueness"].measure(items, none) == 0.75
    assert metrics["novelty"].measure(items, others) == pytest.approx(1 / 3)
    assert metrics["exact_match"].measure(items, others) == 0.5
    assert metrics["validity"].measure(items, none) == 1.0


def test_validity_counts_selfies_that_rdkit_refuses_whole() -> None:
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


def test_chemistry_metrics_take_every_example(
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


def test_what_is_written_reads_back_exactly(
    molecule: Molecule, rows: Tensor, tmp_path: Path
) -> None:
    path = molecule.write(rows[7], tmp_path / "row.7")
    assert path.suffix == ".smi"
    assert torch.equal(molecule.preprocess(molecule.read(path)), rows[7])
    assert molecule.read(molecule.cell(rows[7])) == molecule.cell(rows[7])


def test_the_preview_is_an_svg_drawing(molecule: Molecule, rows: Tensor, tmp_path: Path) -> None:
    (path,) = molecule.preview(rows[9], tmp_path / "row")
    assert len(ElementTree.fromstring(path.read_bytes()).findall("{*}path")) >= 9


@pytest.mark.parametrize("label", range(10))
def test_examples_have_as_many_carbons_as_their_label(label: int) -> None:
    found = molecules(label)
    assert len(found) == len(set(found)) >= (400 if label > 2 else 150)
    assert all(carbons(smiles) == label for smiles in found)
    assert all(len(molecules_of(label, split)) >= 8 for split in SPLITS)
    assert sorted(found) == sorted(s for split in SPLITS for s in molecules_of(label, split))


def test_examples_are_short_words_of_everyday_symbols() -> None:
    for label in range(10):
        for smiles in molecules(label)[::4]:
            symbols = selfies_symbols(smiles)
            assert len(symbols) <= LONGEST
            assert set(symbols) <= set(BASE_SYMBOLS)
            assert parse(smiles) is not None


def test_examples_follow_their_generator_and_use_each_molecule_before_repeating() -> None:
    raw, labels = drawn(200, "train")
    assert raw == drawn(200, "train")[0] != drawn(200, "train", seed=1)[0]
    assert [carbons(smiles) for smiles in raw] == labels
    assert len(set(raw)) == len(raw)
    many, _ = drawn(200, "validation")
    times = [many.count(smiles) for smiles in molecules_of(2, "validation")]
    assert sum(times) == 20
    assert max(times) - min(times) <= 1


def test_examples_are_the_same_in_every_process() -> None:
    code = "from mld_molecule.examples import molecules_of; print(*molecules_of(5, 'test'))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert tuple(answer.stdout.split()) == molecules_of(5, "test")


@pytest.mark.parametrize("seed", range(5))
def test_a_small_training_set_fits_all_held_out_examples(seed: int) -> None:
    small = fitted(drawn(60, "train", seed)[0])
    rows_of(small, drawn(200, "test", seed)[0])


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
    found = [row[column].strip() for row in csv.DictReader(lines)] if column else lines
    sample = found[:: max(1, len(found) // 1000)]
    molecule = fitted(sample)
    same = [
        molecule.cell(molecule.preprocess(smiles)) == molecule.read(smiles) for smiles in sample
    ]
    share = sum(same) / len(same)
    record_property("share_that_round_trips", share)
    assert share >= 0.999
