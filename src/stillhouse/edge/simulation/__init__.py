"""Many users played in one process: the real service, on a clock that only moves when it is told to."""
