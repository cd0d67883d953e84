"""The store's tables. A change here needs a migration in ``migrations/versions``; a test compares the two.

Readings (columns ``*_sent``, ``*_received``) are clock seconds from the run's start; dates are ISO 8601 in UTC; money is USD.
"""

import sqlalchemy as sa

from vastbench.record.phases import LONGEST_NAME

metadata = sa.MetaData()

LONGEST_GPU_NAME = 80
"""A copy for queries is cut to this; the document of resources holds the whole."""

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("scenario", sa.String(40), nullable=False),
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("cause", sa.String(40), nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("source", sa.String(10), nullable=False),
    sa.Column("started_at", sa.String(40), nullable=False, index=True),
    sa.Column("total_s", sa.Float),
    sa.Column("origin", sa.Float, nullable=False, default=0.0),
    sa.Column("study", sa.String(80), nullable=False, server_default="", index=True),
    sa.Column("ready", sa.String(LONGEST_NAME), nullable=False, server_default="wait SSH"),
    sa.Column("gpu_name", sa.String(LONGEST_GPU_NAME)),
    sa.Column("machine_id", sa.BigInteger),
    sa.Column("instance_id", sa.BigInteger),
    sa.Column("usd_per_hour", sa.Float),
    sa.Column("cost_usd", sa.Float),
    sa.Column("conditions", sa.JSON, nullable=False),
    sa.Column("resources", sa.JSON, nullable=False),
    sa.Column("ssh", sa.JSON, nullable=False),
    sa.Column("validation", sa.JSON, nullable=False),
    sa.Column("cost", sa.JSON, nullable=False),
    sa.Column("guest", sa.JSON, nullable=False, server_default="{}"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("offer_id", sa.BigInteger),
    sa.Column("machine_id", sa.BigInteger),
    sa.Column("instance_id", sa.BigInteger),
    sa.Column("cause", sa.String(40), nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
)

phases = sa.Table(
    "phases",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", sa.String(LONGEST_NAME), nullable=False, index=True),
    sa.Column("parent", sa.String(LONGEST_NAME)),
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("lower", sa.Float, nullable=False),
    sa.Column("upper", sa.Float),
    *(
        sa.Column(f"{edge}_{reading}", sa.Float, nullable=reading.startswith("yes"))
        for edge in ("start", "end")
        for reading in ("no_sent", "no_received", "yes_sent", "yes_received")
    ),
    sa.Column("start_source", sa.String(10), nullable=False),
    sa.Column("end_source", sa.String(10), nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("queued_s", sa.Float, nullable=False, server_default="0"),
)

instruments = sa.Table(
    "instruments",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("clock_speed", sa.Float, nullable=False),
    sa.Column("poll_period_s", sa.Float),
    sa.Column("readings", sa.JSON, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("label", sa.String(256), primary_key=True),
    sa.Column("run_id", sa.String(40), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("verdict", sa.String(16)),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("owner", sa.JSON, nullable=False),
    sa.Column("offer_id", sa.BigInteger, nullable=False),
    sa.Column("machine_id", sa.BigInteger),
    sa.Column("instance_id", sa.BigInteger),
    sa.Column("usd_per_hour", sa.Float, nullable=False),
    sa.Column("opened_at", sa.String(40), nullable=False),
    sa.Column("deadline_at", sa.String(40), nullable=False),
    sa.Column("closed_at", sa.String(40)),
    sa.Column("note", sa.Text, nullable=False, default=""),
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("scenario", sa.String(40), nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False),
    sa.Column("conditions", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(40), nullable=False),
)

sittings = sa.Table(
    "sittings",
    metadata,
    # No foreign key: the emulator of a study's first launch needs its seed before the study is opened.
    sa.Column("study", sa.String(80), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("started_at", sa.String(40), nullable=False),
)

study_runs = sa.Table(
    "study_runs",
    metadata,
    # No foreign key: a run is announced here before it begins, and stored in `runs` when it has ended.
    sa.Column("run_id", sa.String(40), primary_key=True),
    sa.Column("study", sa.ForeignKey("studies.name", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("owner", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String(40), nullable=False),
)

owners = sa.Table(
    "owners",
    metadata,
    # No foreign key: a lease outlives its owner. `beat_at` is the last sign of life, by the owner's own clock.
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("beat_at", sa.String(40), nullable=False),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    # When nothing that a dead owner left was last found on a marketplace by the key of an account; 0 where that is unknown.
    sa.Column("url", sa.Text, primary_key=True),
    sa.Column("account", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("swept_at", sa.String(40), nullable=False),
)

marks = sa.Table(
    "marks",
    metadata,
    # One row: what tells the labels of this store from those of any other store of the same account.
    sa.Column("mark", sa.String(8), primary_key=True),
)

charges = sa.Table(
    "charges",
    metadata,
    # No foreign key: an instance is charged also when its run was never stored. `by_contract` holds the account's own rows.
    sa.Column("run_id", sa.String(40), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("asked_at", sa.String(40), nullable=False),
    sa.Column("bill", sa.JSON, nullable=False),
    sa.Column("by_contract", sa.JSON, nullable=False),
)

webhook_configs = sa.Table(
    "webhook_configs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    # An empty list stands for all events.
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("allow_private", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.String(40), nullable=False),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    # The id is the header webhook-id: the same for every try, so that a receiver can tell a repetition.
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("config_id", sa.ForeignKey("webhook_configs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("event", sa.String(40), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(40), nullable=False),
    sa.Column("state", sa.String(10), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_try_at", sa.String(40), nullable=False),
    # Until then one process is sending it, and no other may.
    sa.Column("claimed_until", sa.String(40)),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text, nullable=False, default=""),
)
