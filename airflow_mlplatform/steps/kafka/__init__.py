"""A Kafka topic as a batch source: each run reads what came since the one before, and loads it exactly once.

What a run reads is decided once and written down before it is read (:mod:`.progress`); what it loads names it, in the
manifest of a folder or the footer of a file, so that both become visible by the same rename or upload. Kafka itself
keeps nothing: no consumer group is joined and no offset is committed.
"""
