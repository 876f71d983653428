"""Drawing tokens: the key-value cache, the decoding loop, what logits become, where to stop."""
