"""Studies, and the runs that they announced."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables, and say of each run to which study it belongs: so far to none."""
    op.create_table(
        "studies",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("scenario", sa.String(length=40), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "sittings",
        sa.Column("study", sa.String(length=80), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("study", "number"),
    )
    op.create_table(
        "study_runs",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("study", sa.String(length=80), nullable=False),
        sa.Column("owner", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index(op.f("ix_study_runs_study"), "study_runs", ["study"], unique=False)
    op.add_column("runs", sa.Column("study", sa.String(length=80), nullable=False, server_default=""))
    op.create_index(op.f("ix_runs_study"), "runs", ["study"], unique=False)


def downgrade() -> None:
    """Forget the studies; their runs stay."""
    op.drop_index(op.f("ix_runs_study"), table_name="runs")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("study")
    op.drop_index(op.f("ix_study_runs_study"), table_name="study_runs")
    op.drop_table("study_runs")
    op.drop_table("sittings")
    op.drop_table("studies")
