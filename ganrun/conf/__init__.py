"""The configuration groups: one folder a group, one YAML a choice."""
