"""SCCAN: self-calibrated cross attention."""
