from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from mld_core.diffusion.role_schemes import RoleScheme
from mld_core.diffusion.roles import (
    CONDITIONAL_FRACTION,
    JOINT_FRACTION,
    JOINT_FRACTION_INCOMPLETE,
    MAX_OVERSAMPLING,
    Role,
    conditioning_subsets,
    draw_paper_roles,
    draw_roles,
    draw_three_roles,
    roles_for,
    row_sampling_weights,
)

G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
N = 40_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_three_roles_of_two_modalities_have_exact_frequencies() -> None:
    # In a row that draws among all three, the probability of a pattern is a moment of
    # Dirichlet(1,1,1): 1/6 for equal roles, 1/12 for unequal ones. Drawing again until one is
    # GENERATED leaves GG, GO, OG, GA, AG in proportion 2:1:1:1:1.
    roles = draw_three_roles(torch.ones(N, 2).bool(), generator())
    share = {
        (a, b): ((roles[:, 0] == a) & (roles[:, 1] == b)).float().mean().item()
        for a in Role
        for b in Role
    }
    drawn = 1 - JOINT_FRACTION - CONDITIONAL_FRACTION
    expected = {
        (G, G): JOINT_FRACTION + drawn / 3,
        **dict.fromkeys([(G, O), (O, G)], CONDITIONAL_FRACTION / 2 + drawn / 6),
        **dict.fromkeys([(G, A), (A, G)], drawn / 6),
    }
    for pattern, value in share.items():
        assert value == pytest.approx(expected.get(pattern, 0.0), abs=0.012), pattern


def test_for_information_all_rows_draw_among_three_roles() -> None:
    # Moments of Dirichlet(1, 1, 2): GG 1/10, GO 1/20, GA 1/10, drawn again until one is GENERATED.
    present = torch.ones(N, 2).bool()
    roles = draw_roles("three-role", present, generator(), purpose="information")
    patterns, counts = roles.unique(dim=0, return_counts=True)
    shares = dict(zip(map(tuple, patterns.tolist()), (counts / N).tolist(), strict=True))
    expected = dict.fromkeys([(G, G), (G, A), (A, G)], 1 / 4) | dict.fromkeys(
        [(G, O), (O, G)], 1 / 8
    )
    assert shares == pytest.approx(expected, abs=0.012)
    # Rows with missing cells have the same shares.
    present = torch.cat([present, torch.arange(N)[:, None] % 2 == 0], 1)
    roles = draw_three_roles(present, generator(), "information")
    both = (roles[1::2, :2] == G).all(1).float().mean().item()
    assert both == pytest.approx(1 / 4, abs=0.012)


def test_number_of_observed_modalities_is_uniform() -> None:
    # Among all three roles, with Dirichlet(1,1,1) probabilities, each of the 15 role counts of four
    # modalities is equally likely; 10 of them generate, 3 observe the rest, 1 generates all.
    roles = draw_three_roles(torch.ones(N, 4).bool(), generator())
    without_absent = (roles != A).all(1)
    drawn = 1 - JOINT_FRACTION - CONDITIONAL_FRACTION
    for observed in range(1, 4):
        share = (without_absent & ((roles == O).sum(1) == observed)).float().mean().item()
        assert share == pytest.approx(CONDITIONAL_FRACTION / 3 + drawn / 10, abs=0.012)
    joint = (roles == G).all(1).float().mean().item()
    assert joint == pytest.approx(JOINT_FRACTION + drawn / 10, abs=0.012)


def test_frequencies_in_batches_with_missing_cells() -> None:
    present = torch.ones(N, 3).bool()
    present[::2, 2] = False
    roles = draw_three_roles(present, generator())[::2, :2]
    both = (roles == G).all(1).float().mean().item()
    assert both == pytest.approx(
        JOINT_FRACTION_INCOMPLETE + (1 - JOINT_FRACTION_INCOMPLETE) / 3, abs=0.012
    )
    with_absent = (roles == A).any(1).float().mean().item()
    assert with_absent == pytest.approx((1 - JOINT_FRACTION_INCOMPLETE) / 3, abs=0.012)


def test_missing_modalities_are_absent_and_rows_differ() -> None:
    present = torch.rand(2000, 5, generator=generator(1)) < 0.4
    present = present[present.any(1)]
    roles = draw_three_roles(present, generator())
    assert bool((roles[~present] == A).all())
    assert bool((roles == G).any(1).all())
    assert len(roles.unique(dim=0)) > 100


def test_one_modality_is_always_generated() -> None:
    present = torch.eye(3).bool()
    for scheme in ("three-role", "joint"):
        assert torch.equal(draw_roles(scheme, present, generator()), torch.where(present, G, A))
    assert torch.equal(
        draw_paper_roles(torch.ones(5, 1).bool(), generator()), torch.full((5, 1), G)
    )


@pytest.mark.parametrize("p_conditional", [0.2, 0.8])
def test_paper_roles_have_their_exact_frequencies(p_conditional: float) -> None:
    roles = draw_paper_roles(torch.ones(N, 3).bool(), generator(), p_conditional)
    patterns, counts = roles.unique(dim=0, return_counts=True)
    assert len(patterns) == 7  # all generated, and six proper observed subsets
    assert not bool((roles == A).any())
    for pattern, count in zip(patterns, counts, strict=True):
        joint = bool((pattern == G).all())
        expected = 1 - p_conditional if joint else p_conditional / 6
        assert count.item() / N == pytest.approx(expected, abs=0.012)


def test_sampling_weights_count_role_assignments() -> None:
    for recorded in range(1, 6):
        assignments = [roles for roles in product(Role, repeat=recorded) if G in roles]
        present = torch.arange(6)[None] < recorded
        assert row_sampling_weights(present).tolist() == [len(assignments)]


def test_sampling_weights_are_limited() -> None:
    present = torch.zeros(100, 4, dtype=torch.bool)
    present[:, 0] = True
    present[0] = True
    drawn = row_sampling_weights(present)
    assert drawn[1:].tolist() == [1] * 99
    assert drawn[0].item() == pytest.approx(MAX_OVERSAMPLING * (65 + 99) / 100)


def test_paper_roles_reject_incomplete_rows() -> None:
    with pytest.raises(ValueError, match="complete rows"):
        draw_paper_roles(torch.tensor([[True, False]]), generator())


@pytest.mark.parametrize("scheme", ["three-role", "joint"])
def test_empty_rows_are_rejected(scheme: RoleScheme) -> None:
    with pytest.raises(ValueError, match="no modality present"):
        draw_roles(scheme, torch.tensor([[True], [False]]), generator())


def test_same_seed_draws_the_same_roles() -> None:
    present = torch.ones(64, 4).bool()
    first, again, other = (draw_three_roles(present, generator(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("scheme", "expected"), [("three-role", [O, G, A]), ("paper", [O, G, G])])
def test_roles_for_wanted_and_observed(scheme: RoleScheme, expected: list[int]) -> None:
    assert roles_for(["a", "b", "c"], ["a"], ["b"], scheme).tolist() == expected


def test_default_conditioning_subsets() -> None:
    four = conditioning_subsets("abcd")
    assert len(four) == 15
    assert set(four) == {s for k in range(4) for s in combinations("abcd", k)}
    ten = conditioning_subsets("abcdefghij")
    assert len(ten) == 1 + 10 + 10
    assert conditioning_subsets("a") == [()]
    assert conditioning_subsets("ab") == [(), ("a",), ("b",)]
