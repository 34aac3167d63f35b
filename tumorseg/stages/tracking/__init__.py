"""The verb `track`: mirror trainings to MLflow."""
