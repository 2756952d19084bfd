"""The EMR cluster as data: the RunJobFlow request, its rules, sizes, steps and tags."""
