"""From tables of labelled texts to three splits: reading, cleaning, splitting, writing."""
