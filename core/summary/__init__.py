"""The runs under a root, side by side.

run_records     the list of runs, and their files as typed records
summarize       tables of their metrics
run_comparison  two runs, paired by example
sweep_arms      the arms of a sweep, which differ in a few keys, and their comparison
sweep_report    the report of a sweep

Nothing is exported here, so that `understudy ls` does not load the reports.
"""
