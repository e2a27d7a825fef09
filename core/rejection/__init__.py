"""Rejection of teacher answers: named rules, their verdicts, and the funnel of what they rejected.

Open `rules` for the built-in rules, `funnel` for counts and teacher_summary.json, and `stage` for the reject
stage and its files. Reports need only `funnel`, so nothing is imported here.
"""
