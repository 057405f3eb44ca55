"""whittle: measure every tensor in closed form, solve for the whole front of formats, validate on true accuracy."""
