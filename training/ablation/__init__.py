"""What each part of the recipe is worth, on small models over several seeds."""
