"""The report of a run: one frozen value with all facts, rendered as Markdown and as one HTML page."""
