"""What an image shall be: changes, plans and listings. Pure."""
