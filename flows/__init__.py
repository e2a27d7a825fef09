"""Prefect flows and the command line."""

from __future__ import annotations

try:
    from understudy.installation import check_packages
except ModuleNotFoundError as e:
    raise ImportError(
        "the package 'understudy' that Python finds is not the one of understudy-distill: a folder of that "
        "name in the working directory or another project's distribution shadows ours; run from another "
        "directory, or run `pip uninstall understudy` and reinstall understudy-distill"
    ) from e

from flows import environment

check_packages()
environment.set_defaults()
