"""Images: variational auto-encoders whose latent variables are classes, bits or coupled bits, with exact checks."""
