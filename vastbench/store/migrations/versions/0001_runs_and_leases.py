"""Runs, attempts, phases, instruments and leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "leases",
        sa.Column("label", sa.String(length=256), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("owner", sa.JSON(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("machine_id", sa.BigInteger(), nullable=True),
        sa.Column("instance_id", sa.BigInteger(), nullable=True),
        sa.Column("usd_per_hour", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.String(length=40), nullable=False),
        sa.Column("deadline_at", sa.String(length=40), nullable=False),
        sa.Column("closed_at", sa.String(length=40), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("label"),
    )
    op.create_index(op.f("ix_leases_run_id"), "leases", ["run_id"], unique=False)
    op.create_index(op.f("ix_leases_state"), "leases", ["state"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scenario", sa.String(length=40), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("started_at", sa.String(length=40), nullable=False),
        sa.Column("total_s", sa.Float(), nullable=True),
        sa.Column("origin", sa.Float(), nullable=False),
        sa.Column("gpu_name", sa.String(length=80), nullable=True),
        sa.Column("machine_id", sa.BigInteger(), nullable=True),
        sa.Column("instance_id", sa.BigInteger(), nullable=True),
        sa.Column("usd_per_hour", sa.Float(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("ssh", sa.JSON(), nullable=False),
        sa.Column("validation", sa.JSON(), nullable=False),
        sa.Column("cost", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_runs_started_at"), "runs", ["started_at"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=True),
        sa.Column("machine_id", sa.BigInteger(), nullable=True),
        sa.Column("instance_id", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )
    op.create_table(
        "instruments",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("clock_speed", sa.Float(), nullable=False),
        sa.Column("poll_period_s", sa.Float(), nullable=True),
        sa.Column("readings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "phases",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("lower", sa.Float(), nullable=False),
        sa.Column("upper", sa.Float(), nullable=True),
        sa.Column("start_no_sent", sa.Float(), nullable=False),
        sa.Column("start_no_received", sa.Float(), nullable=False),
        sa.Column("start_yes_sent", sa.Float(), nullable=True),
        sa.Column("start_yes_received", sa.Float(), nullable=True),
        sa.Column("end_no_sent", sa.Float(), nullable=False),
        sa.Column("end_no_received", sa.Float(), nullable=False),
        sa.Column("end_yes_sent", sa.Float(), nullable=True),
        sa.Column("end_yes_received", sa.Float(), nullable=True),
        sa.Column("start_source", sa.String(length=10), nullable=False),
        sa.Column("end_source", sa.String(length=10), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "position"),
    )
    op.create_index(op.f("ix_phases_name"), "phases", ["name"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_phases_name"), table_name="phases")
    op.drop_table("phases")
    op.drop_table("instruments")
    op.drop_table("attempts")
    op.drop_index(op.f("ix_runs_started_at"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_leases_state"), table_name="leases")
    op.drop_index(op.f("ix_leases_run_id"), table_name="leases")
    op.drop_table("leases")
