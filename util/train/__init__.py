"""The stages of a training and the observers that validate, save and log it."""
