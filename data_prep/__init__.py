"""Offline preparation: pictures in, TFRecords out."""
