"""The six tables of the service."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # active, revoked, quarantined
    Column("strikes", Integer, nullable=False, default=0),
    Column("visits", Integer, nullable=False, default=0),
    Column("mean_seconds", Float, nullable=False, default=0.0),  # of a visit
    Column("invited", Float, nullable=False),
    Column("last_seen", Float, nullable=False, default=0.0),
    Column("bytes_down", BigInteger, nullable=False, default=0),
    Column("bytes_up", BigInteger, nullable=False, default=0),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("node", String(64), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("base_digest", String(64), nullable=False),
    Column("base_size", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
    Column("final", Boolean, nullable=False, default=False),
    Column("granted", Float, nullable=False),
    Column("window", Float, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("last_beat", Float, nullable=False),
    Column("ended", Float, nullable=False, default=0.0),
    Column("arrival", Integer, nullable=False, default=0),
    Column("digest", String(64), nullable=False, default="", index=True),
    Column("size", BigInteger, nullable=False, default=0),
    Column("bytes_down", BigInteger, nullable=False, default=0),
    Column("bytes_up", BigInteger, nullable=False, default=0),
)
_out = leases.c.state == "out"
Index("one_open_lease_per_node", leases.c.node, unique=True, sqlite_where=_out, postgresql_where=_out)

core = Table(
    "core",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
)

origin = Table(
    "origin",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row
    Column("name", String(32), nullable=False),  # of the core, as its store knows it
    Column("questions", String(64), nullable=False),  # SHA-256 of their file; empty where nothing is asked
    Column("asked", Integer, nullable=False),  # how many there are
)

ledger = Table(
    "ledger",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("taught", Float, nullable=False),
    Column("by", JSON, nullable=False),  # what taught: [{lease, node, staleness}]
    Column("score", Float),  # the one to keep up
    Column("scores", JSON, nullable=False),
    Column("measures", JSON, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("nonce", String(32), primary_key=True),
    Column("seen", Float, nullable=False, index=True),
)
