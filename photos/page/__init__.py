"""The web page of ``predict.py --serve``: mark objects on a few photos, segment others, correct and download."""
