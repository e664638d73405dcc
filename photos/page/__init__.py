"""The web page of ``predict.py serve``: annotate objects on a few photos, segment others, correct and download."""
