"""YAML to objects: composing, checking and building a run. Builds the parts; plays nothing and prints nothing."""
