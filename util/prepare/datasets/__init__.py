"""The data sets of the field, one recipe each, and the steps that they share."""
