"""${message}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from limbeck.storage.database import Json, UtcDateTime
${imports if imports else ""}

__all__ = ["downgrade", "upgrade"]

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
