"""The 52 named expressions in the groups that the page shows them in."""

from __future__ import annotations

from flame.heads.head_model import HeadModel

GROUPS = {
    "Eyes": ("eye",),
    "Brows": ("brow",),
    "Mouth": ("mouth",),
    "Jaw and tongue": ("jaw", "tongue"),
    "Cheeks and nose": ("cheek", "nose"),
}
"""Prefixes of the names in each group."""


def grouped_names(model: HeadModel) -> dict[str, list[str]]:
    """The names of a head model that are ARKit's, by group; empty groups for a model without such names."""
    named = [name for name in model.expression_names if "/" not in name]
    return {group: [name for name in named if name.startswith(prefixes)] for group, prefixes in GROUPS.items()}
