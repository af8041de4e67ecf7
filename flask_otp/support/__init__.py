"""What an operator asks for a person: why no code arrives, another try at once, and how many codes come back."""
