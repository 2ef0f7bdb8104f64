"""What each modality of a row is for the score network, and how training draws it.

GENERATED modalities are diffused and learnt, OBSERVED ones are given clean, ABSENT ones are
marginalised away. The paper has the first two; the third lets rows with missing modalities train
as they are, and teaches every marginal. A generator lives on the device of the rows it draws for.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from mld_core.diffusion.role_schemes import RoleScheme, has_marginals


class Role(IntEnum):
    """The role of one modality in one row."""

    GENERATED = 0
    OBSERVED = 1
    ABSENT = 2


P_JOINT = 0.4
"""Three-role: the share of rows in which everything is generated, in batches that lack no cell."""
P_CONDITIONAL = 0.3
"""Three-role: the share in which it is generated or observed, some of either; the rest of the rows
draw among all three roles. What is absent is soon learnt, and reading what is observed is not."""
P_JOINT_INCOMPLETE = 0.3
"""Three-role, in batches that lack a cell: the share in which everything recorded is generated; all
other rows draw among all three."""


def draw_three_roles(
    present: Bool[Tensor, "batch modality"], generator: Generator
) -> Int64[Tensor, "batch modality"]:
    """Roles of each row: all generated, or generated and observed, or any by shares of its own.

    A missing modality is ABSENT. Rows differ: the official code draws one subset a batch.
    """
    _demand_recorded(present)
    roles = torch.where(present, Role.GENERATED, Role.ABSENT)
    if present.shape[1] < 2:
        return roles
    whole = bool(present.all())
    p_joint, p_conditional = (P_JOINT, P_CONDITIONAL) if whole else (P_JOINT_INCOMPLETE, 0.0)
    u = torch.rand(len(present), generator=generator, device=generator.device)
    conditional = (u >= p_joint) & (u < p_joint + p_conditional)
    open_rows = torch.nonzero(u >= p_joint).squeeze(1)
    while len(open_rows):
        wants_both = conditional[open_rows]
        drawn = _roles_by_shares(present[open_rows], wants_both, generator)
        generates, observes = ((drawn == role).any(1) for role in (Role.GENERATED, Role.OBSERVED))
        fits = generates & (observes | ~wants_both)
        roles[open_rows[fits]] = drawn[fits]
        open_rows = open_rows[~fits]
    return roles


def _roles_by_shares(
    present: Bool[Tensor, "batch modality"], of_two: Bool[Tensor, " batch"], generator: Generator
) -> Int64[Tensor, "batch modality"]:
    """Each recorded modality's role, of the first two or of three, by shares uniform in its row."""
    cuts = torch.rand(len(present), 2, generator=generator, device=generator.device)
    first = torch.where(of_two, cuts[:, 0], cuts.amin(1))
    second = torch.where(of_two, 1.0, cuts.amax(1))
    u = torch.rand(present.shape, generator=generator, device=generator.device)
    drawn = (u >= first[:, None]).long() + (u >= second[:, None]).long()
    return torch.where(present, drawn, Role.ABSENT)


def draw_paper_roles(
    present: Bool[Tensor, "batch modality"], generator: Generator, p_conditional: float = 0.5
) -> Int64[Tensor, "batch modality"]:
    """Roles after the paper: generated or observed, the observed subset uniform over proper ones.

    p_conditional is the chance of a conditional row, the `d` of the official code; the paper's d
    is its complement. ValueError if a row is incomplete.
    """
    if not bool(present.all()):
        raise ValueError("the paper's roles need complete rows")
    roles = torch.full(present.shape, int(Role.GENERATED), device=present.device)
    if present.shape[1] < 2:
        return roles
    u = torch.rand(len(present), generator=generator, device=generator.device)
    open_rows = torch.nonzero(u < p_conditional).squeeze(1)
    while len(open_rows):
        shape = (len(open_rows), present.shape[1])
        drawn = torch.randint(0, 2, shape, generator=generator, device=generator.device)
        proper = (drawn != drawn[:, :1]).any(1)
        roles[open_rows[proper]] = drawn[proper]
        open_rows = open_rows[~proper]
    return roles


def draw_joint_roles(
    present: Bool[Tensor, "batch modality"], generator: Generator
) -> Int64[Tensor, "batch modality"]:
    """Everything recorded is generated, at one time or at a time of its own."""
    _demand_recorded(present)
    return torch.where(present, Role.GENERATED, Role.ABSENT)


MAX_OVERSAMPLING = 6.0
"""A row is drawn at most so many times as often as all are on average: a few whole rows among many
that lack most of their modalities would be learnt by heart."""


def row_sampling_weights(present: Bool[Tensor, "batch modality"]) -> Float[Tensor, " batch"]:
    """How often to draw each row: by how many assignments of roles it can teach.

    These are 3^k − 2^k of k recorded modalities. Rows drawn evenly seldom teach what needs many
    modalities at once: with half of the cells missing, one row of 16 has all four. Where cells are
    missing at random, how full a row is says nothing of its content; elsewhere the lean towards
    fuller rows is a lean in content too.
    """
    recorded = present.sum(1)
    assignments = torch.pow(3.0, recorded) - torch.pow(2.0, recorded)
    return assignments.clamp(max=MAX_OVERSAMPLING * float(assignments.mean()))


def draw_roles(
    scheme: RoleScheme,
    present: Bool[Tensor, "batch modality"],
    generator: Generator,
    p_conditional: float = 0.5,
) -> Int64[Tensor, "batch modality"]:
    """Roles under a scheme; `p_conditional` is read by the paper's alone."""
    if scheme == "paper":
        return draw_paper_roles(present, generator, p_conditional)
    draw = draw_three_roles if scheme == "three-role" else draw_joint_roles
    return draw(present, generator)


def roles_for(
    names: Sequence[str], observed: Sequence[str], wanted: Sequence[str], scheme: RoleScheme
) -> Int64[Tensor, " modality"]:
    """Roles that ask a network for `wanted` given `observed`.

    Two schemes know no ABSENT in complete rows: what is neither given nor wanted is generated too.
    """
    idle = Role.ABSENT if has_marginals(scheme) else Role.GENERATED
    return torch.tensor(
        [
            int(Role.OBSERVED if name in observed else Role.GENERATED if name in wanted else idle)
            for name in names
        ]
    )


def conditioning_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """What to condition on when nobody says: () is joint generation.

    All proper subsets up to four modalities; beyond that none, singles and leave-one-out, so that
    the number grows linearly.
    """
    sizes = range(len(names)) if len(names) <= 4 else sorted({0, 1, len(names) - 1})
    return [subset for size in sizes for subset in combinations(names, size)]


def _demand_recorded(present: Bool[Tensor, "batch modality"]) -> None:
    if not bool(present.any(1).all()):
        raise ValueError("a row has no modality recorded: drop such rows before training")
