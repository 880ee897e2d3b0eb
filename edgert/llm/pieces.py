"""SentencePiece's BPE, whose pieces carry scores, as a list of merges in order of rank."""

from collections.abc import Mapping


def last_merge(piece: str, scores: Mapping[str, float]) -> tuple[str, str] | None:
    """The two symbols whose merge completes `piece` when it is tokenized by itself, or None if it stays in parts.

    The pair with the highest score of its concatenation is merged first, the leftmost of equals (SentencePiece,
    Kudo and Richardson 2018, BPE model)."""
    symbols = list(piece)
    # joined[i]: the score of symbols[i] + symbols[i + 1]; what is not a piece is never merged
    while len(symbols) > 2:
        best, at = None, -1
        for i in range(len(symbols) - 1):
            score = scores.get(symbols[i] + symbols[i + 1])
            if score is not None and (best is None or score > best):
                best, at = score, i
        if best is None:
            return None
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return (symbols[0], symbols[1]) if len(symbols) == 2 else None


def merges_of(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges of a scored vocabulary, best first: exactly one for each piece that can arise at all.

    Merges inside the span of a piece do not depend on what stands around it as long as none crosses its ends, so a
    piece always comes about by the same last merge as when it is tokenized alone. Ranking all ways of splitting each
    piece, as converters commonly do, gives twice the list and can choose differently between ways that overlap.
    Of pieces with one score the longer goes first, so that runs (of spaces, say) grow from the left as with scores.

    Single characters without a piece of their own become bytes before any merge, so pieces with such do not arise."""
    found = []
    for piece, score in scores.items():
        if len(piece) > 1 and (pair := last_merge(piece, scores)) and all(part in scores for part in pair):
            found.append((-score, -len(piece), pair))
    found.sort(key=lambda item: item[:2])
    return [pair for _, _, pair in found]
