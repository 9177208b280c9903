"""Looking inside: features, filters, plots."""
