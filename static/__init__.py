"""The browser client. A package, because an editable install finds data below `pagews` in packages alone."""
