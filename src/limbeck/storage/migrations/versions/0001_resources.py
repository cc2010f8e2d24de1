"""The first tables: resources, tokens, tags, settings, heartbeats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from limbeck.storage.database import Json, UtcDateTime

__all__ = ["downgrade", "upgrade"]

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "resources",
        sa.Column("arn", sa.String(2048), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("modified", UtcDateTime(), nullable=False),
        sa.Column("ended", UtcDateTime(), nullable=True),
        sa.Column("model", sa.String(2048), nullable=True),
        sa.Column("request", Json, nullable=False),
        sa.Column("facts", Json, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("arn", name="pk_resources"),
        sa.UniqueConstraint("kind", "name", name="uq_resources_kind_name"),
    )
    op.create_index("ix_resources_kind_created_arn", "resources", ["kind", "created", "arn"])
    op.create_index("ix_resources_kind_status", "resources", ["kind", "status"])
    op.create_index("ix_resources_model", "resources", ["model"])
    op.create_table(
        "tokens",
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("token", sa.String(256), nullable=False),
        sa.Column("asked", sa.String(64), nullable=False),
        sa.Column("arn", sa.String(2048), nullable=False),
        sa.PrimaryKeyConstraint("operation", "token", name="pk_tokens"),
    )
    op.create_table(
        "tags",
        sa.Column("arn", sa.String(2048), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("arn", "key", name="pk_tags"),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
    )
    op.create_table(
        "heartbeats",
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("beat", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name="pk_heartbeats"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("heartbeats", "settings", "tags", "tokens", "resources"):
        op.drop_table(table)
