"""Reports: typed values, sections of blocks, and one renderer each for Markdown and HTML."""
