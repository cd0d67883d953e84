"""Whose leases are whose: signs of life of the processes that hold them, and the store's own mark in every label."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables; the mark is drawn here, once."""
    op.create_table(
        "owners",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("beat_at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    marks = op.create_table(
        "marks",
        sa.Column("mark", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("mark"),
    )
    op.bulk_insert(marks, [{"mark": secrets.token_hex(4)}])


def downgrade() -> None:
    """Forget both."""
    op.drop_table("marks")
    op.drop_table("owners")
