"""Names of the role schemes, and what a network trained under each can predict.

Kept apart from the drawing of roles (`roles.py`), so that a spec is checked without torch.
"""

from __future__ import annotations

from typing import Literal

RoleScheme = Literal["three-role", "paper", "independent", "joint"]
"""How training draws the role of each modality; a network predicts only what its scheme trains."""

NO_MARGINALS_MESSAGE = (
    "a model trained with roles: {scheme} has no marginals, which this requires: "
    "train with roles: three-role"
)
"""Template of the error for a request that needs marginals."""


def has_marginals(scheme: RoleScheme) -> bool:
    """Whether training under a scheme includes rows with ABSENT modalities.

    Only then does the network predict the noise of some modalities with the others marginalised
    out, as guidance and information measures require.
    """
    return scheme in ("three-role", "independent")
