"""Rejection of teacher answers: named rules, their verdicts, and the funnel of what they rejected."""
