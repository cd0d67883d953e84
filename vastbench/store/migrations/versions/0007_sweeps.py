"""When an account was last swept."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing is known of earlier sweeps."""
    op.create_table(
        "sweeps",
        sa.Column("url", sa.Text, primary_key=True),
        sa.Column("account", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("swept_at", sa.String(40), nullable=False),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("sweeps")
