"""The page that colours photos, and its server."""
