"""Blockwise decoding: the best of k blocks, again and again (Mudgal et al. 2023, arXiv:2310.17022)."""

from gateway.decoding.laws import best_of_n


def blocks(tokens: int, size: int) -> int:
    """Blocks of `size` tokens that hold so many tokens, the last of them perhaps not full."""
    if tokens < 0 or size < 1:
        raise ValueError(f"tokens must be 0 or more and a block's size 1 or more, not {tokens} and {size}")
    return -(-tokens // size)


def kl(blocks: int, k: int) -> float:
    """An upper bound of KL(blockwise || policy), in nats: blocks * (log k - (k - 1)/k), by the chain rule of KL."""
    return blocks * best_of_n.kl(k)
