"""Files of the lake as the jobs read and write them: storage, schemas, row groups."""
