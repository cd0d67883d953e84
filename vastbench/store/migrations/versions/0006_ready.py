"""The phase at whose end a run is useful."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Earlier runs were useful when a command had run."""
    op.add_column("runs", sa.Column("ready", sa.String(40), nullable=False, server_default="wait SSH"))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("ready")
