"""The bundle: one folder that is all a deployment of a student needs."""
