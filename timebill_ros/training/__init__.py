"""Scripts that make the embedded model and its length predictor, and the task they are trained on."""
