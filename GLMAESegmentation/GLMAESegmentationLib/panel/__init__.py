"""The panel without its widgets: what a click does and what is shown after it."""
