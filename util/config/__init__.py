"""Settings: typed dataclasses, YAML with inheritance and overrides, composition of named runs."""
