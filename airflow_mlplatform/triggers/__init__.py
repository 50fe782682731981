"""The waiting half of operators and sensors, and the watchers of events."""
