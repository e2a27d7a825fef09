"""The pipeline without an orchestrator: data, teacher, rejection, student, evaluation, export, store.

Importing it sets how OpenMP threads wait (see core.openmp): the one moment that precedes torch in the
command line, in Prefect's and Dask's workers, in child processes, and where a program loads a student.
"""

from core.openmp import wait_passively

wait_passively()
