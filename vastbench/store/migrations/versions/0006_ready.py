"""The phase at whose end a run is useful, and room for names of phases that carry a machine's."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Earlier runs were useful when a command had run."""
    op.add_column("runs", sa.Column("ready", sa.String(80), nullable=False, server_default="wait SSH"))
    _widen(80, 40)


def downgrade() -> None:
    """Forget it."""
    _widen(40, 80)
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("ready")


def _widen(to: int, by: int) -> None:
    with op.batch_alter_table("phases") as phases:
        phases.alter_column("name", type_=sa.String(to), existing_type=sa.String(by), existing_nullable=False)
        phases.alter_column("parent", type_=sa.String(to), existing_type=sa.String(by), existing_nullable=True)
