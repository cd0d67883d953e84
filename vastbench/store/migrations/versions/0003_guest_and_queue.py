"""What the instance's own clock said, and what of a phase was our own queueing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Earlier runs have neither."""
    op.add_column("runs", sa.Column("guest", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("phases", sa.Column("queued_s", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget both."""
    with op.batch_alter_table("phases") as phases:
        phases.drop_column("queued_s")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("guest")
