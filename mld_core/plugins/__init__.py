"""How plugins are declared, found and selected."""
