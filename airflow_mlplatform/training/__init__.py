"""A training as MLflow knows it: one tracked run a task, and where it comes from."""
