"""YAML to objects: composing, checking and building a run. Builds the parts; trains and prints nothing."""
