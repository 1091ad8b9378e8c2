"""Which symmetry a posterior keeps: the subgroup, among those of a group or of all invertible matrices."""
