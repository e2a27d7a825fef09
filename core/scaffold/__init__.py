"""A new project from a table: its format, its columns, and the files that `understudy init` writes."""

from __future__ import annotations

from core.scaffold.columns import Options, Roles, Unclear, find_roles
from core.scaffold.project import Project, plan_project, write_project
from core.scaffold.table_file import Sample, TableFormat, detect, read_sample

__all__ = [
    "Options",
    "Project",
    "Roles",
    "Sample",
    "TableFormat",
    "Unclear",
    "detect",
    "find_roles",
    "plan_project",
    "read_sample",
    "write_project",
]
