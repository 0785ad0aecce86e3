"""The service that keeps a core: leases, tables, commit order, and the wire."""
