"""What keeps training fast and safe."""
