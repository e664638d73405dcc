"""The loop: a step of a training and a pass of a test, on methods and files alone."""
