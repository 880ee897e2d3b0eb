"""How good a quantized model's answers are: against labels where there are any, else against its float32 answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx

from quant.similarity import Similarity
from quant.taps import Taps
from targets.errors import UsageError

Sample = dict[str, np.ndarray]
KEPT_BYTES = 256 << 20  # float32 answers up to so many bytes are kept, further ones computed again
TOP1, COSINE = "top-1 accuracy", "mean cosine to the float32 answers"


@dataclass(frozen=True)
class Quality:
    """What was measured over `samples` samples.

    `metric` is `TOP1` where labels were given, else `COSINE` (1 for the float32 model); `before` and `after` are its
    values for float32 and quantized. `sqnr_db` and `cosine` (mean over samples) are those of `output`, the one with the
    lowest. `agreement` is the share of samples with the same largest entry as in float32 in the first output, None
    where that is no row of scores.
    """

    metric: str
    before: float
    after: float
    sqnr_db: float
    cosine: float
    agreement: float | None
    samples: int
    output: str

    @property
    def drop(self) -> float:
        """How much of the metric is lost, in absolute terms: 0.005 is half a percentage point."""
        return self.before - self.after


@dataclass(frozen=True)
class Bound:
    """What must hold: at most `max_drop` of the metric lost, at least `min_sqnr` dB at the output (None: any)."""

    max_drop: float | None = None
    min_sqnr: float | None = None

    def holds(self, quality: Quality) -> bool:
        """Whether `quality` is within the bound."""
        # Accuracies are ratios of counts: 0.85 - 0.845 must not exceed 0.005 by a rounding error.
        drop_holds = self.max_drop is None or quality.drop <= self.max_drop + 1e-9
        return drop_holds and (self.min_sqnr is None or quality.sqnr_db >= self.min_sqnr)

    def miss(self, quality: Quality) -> str:
        """What of the bound does not hold, in words; empty where all holds."""
        parts = []
        if self.max_drop is not None and not quality.drop <= self.max_drop + 1e-9:
            told = f"{quality.metric} {quality.before:.4f} -> {quality.after:.4f}"
            parts.append(
                f"the drop is {100 * quality.drop:.3g} % ({told}), at most {100 * self.max_drop:g} % is allowed"
            )
        if self.min_sqnr is not None and quality.sqnr_db < self.min_sqnr:
            parts.append(f"the output's SQNR is {quality.sqnr_db:.1f} dB, at least {self.min_sqnr:g} dB is wanted")
        return "; ".join(parts)


class Judge:
    """Judges versions of one float32 model on the same samples.

    labels: integers, one for each row of the first output over all samples. Raises UsageError where their number or
    the output's shape does not fit.
    """

    def __init__(self, model: onnx.ModelProto, samples: Iterable[Sample], labels: np.ndarray | None = None) -> None:
        self._model, self._samples = model, samples
        self.labels = None if labels is None else np.asarray(labels).reshape(-1)
        if self.labels is not None and self.labels.dtype.kind not in "iub":
            raise UsageError(f"labels are class numbers, these are {self.labels.dtype}")
        self._taps: Taps | None = None
        self._kept: list[dict[str, np.ndarray]] = []
        self._kept_bytes = 0

    def quality(
        self,
        model: onnx.ModelProto,
        limit: int | None = None,
        each: Callable[[int], None] | None = None,
    ) -> Quality:
        """What the answers of `model` (inputs and outputs as the float32 model's) are worth, on `limit` samples.

        `each` is called with the number of samples done. With a limit, labels are not looked at.
        """
        taps = Taps(model)
        alike = {name: Similarity() for name in taps.tensors}
        rows, agreeing, before, after = 0, 0, 0, 0
        scored, labels = self.labels is not None and limit is None, self.labels
        for count, (feeds, reference) in enumerate(islice(self._answers(), limit), 1):
            answer = taps.run(feeds)
            for name, similarity in alike.items():
                similarity.add(reference[name], answer[name])
            one, two = _top(reference[taps.tensors[0]]), _top(answer[taps.tensors[0]])
            if one is not None and two is not None:
                agreeing += int((one == two).sum())
                if scored and labels is not None:
                    right = labels[rows : rows + len(one)]
                    if len(right) == len(one):
                        before, after = before + int((one == right).sum()), after + int((two == right).sum())
                rows += len(one)
            if each is not None:
                each(count)
        if scored and labels is not None and rows != len(labels):
            what = f"there are {len(labels)} labels for {rows} samples" if rows else "the first output has no classes"
            raise UsageError(f"labels do not fit: {what}")
        worst = min(alike, key=lambda name: alike[name].sqnr_db)
        sqnr, cosine = alike[worst].sqnr_db, min(similarity.mean_cosine for similarity in alike.values())
        metric, values = (TOP1, (before / rows, after / rows)) if scored else (COSINE, (1.0, cosine))
        agreement = agreeing / rows if rows else None
        done = max(similarity.samples for similarity in alike.values())
        return Quality(metric, *values, sqnr, cosine, agreement, done, worst)

    def _answers(self) -> Iterator[tuple[Sample, dict[str, np.ndarray]]]:
        """Each sample with the float32 answers to it."""
        for i, feeds in enumerate(self._samples):
            if i < len(self._kept):
                yield feeds, self._kept[i]
                continue
            self._taps = self._taps or Taps(self._model)
            answer = self._taps.run(feeds)
            if len(self._kept) == i and self._kept_bytes < KEPT_BYTES:
                self._kept.append(answer)
                self._kept_bytes += sum(array.nbytes for array in answer.values())
            yield feeds, answer


def _top(scores: np.ndarray) -> np.ndarray | None:
    """[rows]: the largest entry of each row of [rows, classes], or None for another shape."""
    if scores.ndim < 2 or scores.shape[-1] < 2 or int(np.prod(scores.shape[1:-1])) != 1:
        return None
    return scores.reshape(-1, scores.shape[-1]).argmax(axis=1)
