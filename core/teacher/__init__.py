"""The teacher, which answers texts with a label and a reasoning: gold labels, a file of answers, or a model.

Open `samples` for attempts, rows and counts, `parsing` for how answers are read, `recorded` and `live` for
these teachers, and `stage` for the sample stage. Reports need only `samples`: nothing is imported here.
"""
