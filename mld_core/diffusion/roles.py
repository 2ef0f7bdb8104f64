"""The role of each modality of a row, and how roles are drawn in training.

GENERATED modalities are diffused and denoised, OBSERVED ones enter without noise, ABSENT ones are
marginalised out. The paper has the first two. With the third, rows with missing modalities are
trained on as they are, and the network learns every marginal. A torch.Generator must be on the
device of the rows for which it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from mld_core.diffusion.latent_layout import Present, Roles
from mld_core.diffusion.purpose import Purpose
from mld_core.diffusion.role_schemes import RoleScheme, has_marginals


class Role(IntEnum):
    """The role of one modality in one row."""

    GENERATED = 0
    OBSERVED = 1
    ABSENT = 2


JOINT_FRACTION = 0.4
"""Three-role, complete batches: fraction of rows in which all modalities are GENERATED."""
CONDITIONAL_FRACTION = 0.3
"""Three-role, complete batches: fraction of rows with at least one GENERATED, at least one OBSERVED
and no ABSENT modality. All other rows draw among the three roles. Marginalising an absent modality
is learnt quickly; conditioning on an observed one needs more training."""
JOINT_FRACTION_INCOMPLETE = 0.3
"""Three-role, batches with missing cells: fraction of rows in which all present modalities are
GENERATED. All other rows draw among the three roles."""
ATTEMPTS = 8
"""Draws of a row's roles at once, of which the first valid one is taken; at least a third is."""
MAX_OVERSAMPLING = 6.0
"""Greatest sampling weight of a row relative to the mean. Without this limit, few complete rows
among many with most modalities missing would be memorised."""


def draw_three_roles(present: Present, generator: Generator, purpose: Purpose = "samples") -> Roles:
    """Roles of each row under the three-role scheme.

    A row is joint (all GENERATED), conditional (GENERATED and OBSERVED), or draws each role among
    all three, with role probabilities that are drawn once per row; for information all rows do the
    last, and ABSENT is twice as likely, since marginals are harder to learn than conditionals.
    Missing modalities are ABSENT. Rows are independent; the official code draws one subset for a
    whole batch. ValueError if a row is empty.
    """
    _check_no_empty_row(present)
    roles = torch.where(present, Role.GENERATED, Role.ABSENT)
    if present.shape[1] < 2:
        return roles
    p_joint, p_conditional = JOINT_FRACTION, CONDITIONAL_FRACTION
    if purpose == "information":
        p_joint, p_conditional = 0.0, 0.0
    elif not bool(present.all()):
        p_joint, p_conditional = JOINT_FRACTION_INCOMPLETE, 0.0
    u = torch.rand(len(present), generator=generator, device=generator.device)
    conditional = (u >= p_joint) & (u < p_joint + p_conditional)
    undecided = torch.nonzero(u >= p_joint).squeeze(1)
    # Redraw rows that have no GENERATED modality, or lack a required OBSERVED one.
    while len(undecided):
        needs_both = conditional[undecided]
        drawn = _draw_by_row_probabilities(present[undecided], needs_both, generator, purpose)
        generates, observes = ((drawn == role).any(2) for role in (Role.GENERATED, Role.OBSERVED))
        valid = generates & (observes | ~needs_both)
        first_valid = drawn[
            valid.int().argmax(0), torch.arange(len(undecided), device=drawn.device)
        ]
        decided = valid.any(0)
        roles[undecided[decided]] = first_valid[decided]
        undecided = undecided[~decided]
    return roles


def _draw_by_row_probabilities(
    present: Present,
    without_absent: Bool[Tensor, " batch"],
    generator: Generator,
    purpose: Purpose,
) -> Int64[Tensor, "attempt batch modality"]:
    """Several draws of the roles of present modalities, from randomly drawn role probabilities.

    Among GENERATED and OBSERVED where `without_absent`, else among all three roles. Their
    probabilities are Dirichlet(1, 1, 1), for information Dirichlet(1, 1, 2): the lengths of the
    pieces that two or three random points leave of the unit interval, the last two joined.
    """
    device, shape = generator.device, (ATTEMPTS, *present.shape)
    points = 3 if purpose == "information" else 2
    cuts = torch.rand(ATTEMPTS, len(present), points, generator=generator, device=device)
    first = torch.where(without_absent, cuts[..., 0], cuts.amin(2))
    upper = cuts.median(2).values if purpose == "information" else cuts.amax(2)
    second = torch.where(without_absent, 1.0, upper)
    u = torch.rand(shape, generator=generator, device=device)
    drawn = (u >= first[..., None]).long() + (u >= second[..., None]).long()
    return torch.where(present, drawn, Role.ABSENT)


def draw_paper_roles(present: Present, generator: Generator, p_conditional: float = 0.5) -> Roles:
    """Roles of each row under the paper's scheme: GENERATED or OBSERVED.

    With probability `p_conditional` a row observes a proper, non-empty subset, drawn uniformly;
    else it generates all. (This is the `d` of the official code; the paper's d is its complement.)
    ValueError if a row is incomplete.
    """
    if not bool(present.all()):
        raise ValueError("the paper's roles need complete rows")
    roles = torch.full(present.shape, int(Role.GENERATED), device=present.device)
    if present.shape[1] < 2:
        return roles
    u = torch.rand(len(present), generator=generator, device=generator.device)
    undecided = torch.nonzero(u < p_conditional).squeeze(1)
    # Redraw rows that have no GENERATED modality, or lack a required OBSERVED one.
    while len(undecided):
        shape = (len(undecided), present.shape[1])
        drawn = torch.randint(0, 2, shape, generator=generator, device=generator.device)
        proper = (drawn != drawn[:, :1]).any(1)
        roles[undecided[proper]] = drawn[proper]
        undecided = undecided[~proper]
    return roles


def draw_roles(
    scheme: RoleScheme,
    present: Present,
    generator: Generator,
    p_conditional: float = 0.5,
    purpose: Purpose = "samples",
) -> Roles:
    """Roles of each row under a scheme.

    Only the paper's scheme uses `p_conditional`, and only the three-role scheme `purpose`.

    Under joint, where they share one time, and independent, where each has its own, all present
    modalities are GENERATED. ValueError if a row is empty, or incomplete under the paper's scheme.
    """
    if scheme == "paper":
        return draw_paper_roles(present, generator, p_conditional)
    if scheme == "three-role":
        return draw_three_roles(present, generator, purpose)
    _check_no_empty_row(present)
    return torch.where(present, Role.GENERATED, Role.ABSENT)


def row_sampling_weights(present: Present) -> Float[Tensor, " batch"]:
    """Sampling weight of each row: its number of role assignments that generate something.

    These are 3^k − 2^k for k present modalities. With uniform weights, assignments that involve
    many modalities are seldom trained: with half of the cells missing, one row in 16 has all of
    four. If cells are missing at random, the weights do not change the distribution of contents;
    otherwise they favour the contents of fuller rows.
    """
    count = present.sum(1)
    assignments = torch.pow(3.0, count) - torch.pow(2.0, count)
    return assignments.clamp(max=MAX_OVERSAMPLING * float(assignments.mean()))


def roles_for(
    names: Sequence[str], observed: Sequence[str], wanted: Sequence[str], scheme: RoleScheme
) -> Int64[Tensor, " modality"]:
    """Roles that generate `wanted` given `observed`.

    All other modalities are ABSENT. Under a scheme without marginals they are GENERATED instead,
    and the caller discards them.
    """
    other = Role.ABSENT if has_marginals(scheme) else Role.GENERATED
    return torch.tensor(
        [
            int(Role.OBSERVED if name in observed else Role.GENERATED if name in wanted else other)
            for name in names
        ]
    )


def conditioning_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The default observed subsets; () stands for joint generation.

    All proper subsets of up to four modalities. For more, the empty set, the single modalities and
    all but one, so that their number grows linearly.
    """
    sizes = range(len(names)) if len(names) <= 4 else sorted({0, 1, len(names) - 1})
    return [subset for size in sizes for subset in combinations(names, size)]


def _check_no_empty_row(present: Present) -> None:
    if not bool(present.any(1).all()):
        raise ValueError("a row has no modality present: drop such rows before training")
