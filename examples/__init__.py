"""Small programs that use edgert."""
