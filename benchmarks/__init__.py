"""Benchmarks; each prints a table, or with `--json` the same as JSON."""
