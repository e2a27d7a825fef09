"""The pipeline without an orchestrator: data, teacher, rejection, student, evaluation, export, store."""
