"""What waits for evidence."""
