"""Benchmarks. Each prints its conditions, what it measured, and one line for each goal; none fails on time.

They run from the root of the repository: ``python -m load_tests.pool``.
"""
