"""The runs under a root: run_records reads and lists them, summarize tabulates, run_comparison pairs two.

Nothing is exported here, so that `understudy ls` does not load the reports.
"""
