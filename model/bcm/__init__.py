"""BCM: novel classes within the base classes that they are taken for."""
