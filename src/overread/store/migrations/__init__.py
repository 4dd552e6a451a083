"""Alembic revisions in two lines: `shared` (tenants, senders, the queue's door) and `tenant` (one schema each)."""
