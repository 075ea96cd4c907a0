"""How gradients get past an argmax; no method knows words, images or graphs."""
