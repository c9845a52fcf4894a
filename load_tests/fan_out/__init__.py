"""Many readers on one server process, and on a bare loop that sends them the same."""
