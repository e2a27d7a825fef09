"""Two runs' predictions of the same texts, side by side."""
