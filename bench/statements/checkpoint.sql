-- What was written is on the disk: no checkpoint begins meanwhile.
CHECKPOINT
