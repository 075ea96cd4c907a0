"""Files to sentences and back; nothing in this folder imports torch."""
