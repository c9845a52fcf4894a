"""Benchmarks that take no time, for tests of the report."""
