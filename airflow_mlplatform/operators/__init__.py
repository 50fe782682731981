"""Each tells a short story, finds what a former try made, and is useful alone in a DAG written by hand."""
