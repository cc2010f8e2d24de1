"""How Alembic reaches the tables: over the connection `database.migrate` hands it."""

from __future__ import annotations

from alembic import context

from limbeck.storage.database import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    # The durable queue's tables lie in the same file and are its own.
    include_name=lambda name, kind, _: kind != "table" or name in Base.metadata.tables,
)
context.run_migrations()
