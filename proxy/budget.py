"""How much of something there may be at a time, together."""


class Budget:
    """*most*: bytes, say. Whoever takes gives back."""

    __slots__ = ("_left",)

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, amount: int) -> bool:
        """Whether there is so much left; then it is taken."""
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def give_back(self, amount: int) -> None:
        """What was taken is free again."""
        self._left += amount
