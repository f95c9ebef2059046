"""When a machine is quiet enough for its timings to be trusted."""

# Cores of other processes from which on they are not.
BUSY = 0.25
