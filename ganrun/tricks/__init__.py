"""Stabilisation tricks: one class here and one YAML in conf/tricks each. Knows no architecture."""
