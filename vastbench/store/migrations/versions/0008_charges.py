"""What accounts charged for runs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Nobody has asked yet."""
    op.create_table(
        "charges",
        sa.Column("run_id", sa.String(40), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("asked_at", sa.String(40), nullable=False),
        sa.Column("bill", sa.JSON, nullable=False),
        sa.Column("by_contract", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("charges")
