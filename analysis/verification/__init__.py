"""``verify_symmetry``: is a representation right, and if not, which mistake would explain it?"""
