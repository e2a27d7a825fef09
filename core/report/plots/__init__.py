"""The pictures of reports: each paints a matplotlib figure, independently of pages."""
