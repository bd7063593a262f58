"""Stabilisation tricks: one class here and one YAML in conf/tricks each. Knows the core and how networks are built."""
