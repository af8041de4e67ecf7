"""Commands for an operator who helps a user: why no code arrives, how to allow another try, how many codes come
back."""
