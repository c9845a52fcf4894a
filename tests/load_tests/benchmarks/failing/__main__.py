"""``python -m …failing``: one that breaks off."""

raise SystemExit(7)
