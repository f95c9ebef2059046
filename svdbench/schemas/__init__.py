"""The keys of each job's configuration, and those that several jobs share."""
