"""Everything around the networks: settings, data, the engine that trains and tests, and reports."""
