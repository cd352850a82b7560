"""The pages that pagews itself answers with. A package, because an editable install finds data in packages alone."""
