"""From a trained network to TF Serving: signatures, export, client."""
