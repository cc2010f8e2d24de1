"""A job's recipe lies in a column of its own, which lists do not read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from limbeck.storage.database import Json

__all__ = ["downgrade", "upgrade"]

revision = "0003"
down_revision = "0002"

OUT = {
    "sqlite": "recipe = json_extract(facts, '$.recipe'), facts = json_remove(facts, '$.recipe')",
    "postgresql": "recipe = facts -> 'recipe', facts = facts - 'recipe'",
}
BACK = {
    "sqlite": "facts = json_set(facts, '$.recipe', json(recipe))",
    "postgresql": "facts = jsonb_set(facts, '{recipe}', recipe)",
}


def upgrade() -> None:
    """Make it, and move the recipes there."""
    op.add_column("resources", sa.Column("recipe", Json, nullable=True))
    op.execute(f"update resources set {OUT[_dialect()]}")  # noqa: S608 (one of the lines above)


def downgrade() -> None:
    """Move the recipes back."""
    op.execute(f"update resources set {BACK[_dialect()]} where recipe is not null")  # noqa: S608
    op.drop_column("resources", "recipe")


def _dialect() -> str:
    return op.get_bind().dialect.name
