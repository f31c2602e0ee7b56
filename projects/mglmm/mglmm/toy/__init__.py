"""A small language model, its tokenizer and toy scenes with captions, to train from nothing."""
