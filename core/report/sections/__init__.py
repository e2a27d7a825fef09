"""The sections of the run report. Every module here is imported, and registers the sections it defines."""
