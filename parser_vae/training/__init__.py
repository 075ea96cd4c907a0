"""The loop and what it needs: settings, checkpoints, progress."""
