"""Every filter of a list, and its order, is answered by one index; names are in it, since lists look into them."""

from __future__ import annotations

from alembic import op

__all__ = ["downgrade", "upgrade"]

revision = "0002"
down_revision = "0001"

BEFORE = {
    "ix_resources_kind_created_arn": ["kind", "created", "arn"],
    "ix_resources_kind_status": ["kind", "status"],
    "ix_resources_model": ["model"],
}
AFTER = {
    "ix_resources_kind_created_arn_name": ["kind", "created", "arn", "name"],
    "ix_resources_status_kind_created_arn_name": ["status", "kind", "created", "arn", "name"],
    "ix_resources_model_kind_created_arn": ["model", "kind", "created", "arn"],
}


def upgrade() -> None:
    """Change them."""
    _change(BEFORE, AFTER)


def downgrade() -> None:
    """Change them back."""
    _change(AFTER, BEFORE)


def _change(old: dict[str, list[str]], new: dict[str, list[str]]) -> None:
    for name in old:
        op.drop_index(name, "resources")
    for name, columns in new.items():
        op.create_index(name, "resources", columns)
