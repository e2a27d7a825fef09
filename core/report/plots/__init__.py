"""The report's pictures: each paints a figure, and knows nothing of pages."""
