"""Label Studio asks, this project answers: predictions by the annotations that its project has so far."""
