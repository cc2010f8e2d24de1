"""What each objective is, in float64, one position at a time, from the formula alone.

Nothing here comes from the package. Logits may be complex: a derivative is then the imaginary part of f(x + ih) / h,
exact to the last digits because nothing is subtracted (Squire and Trapp 1998, doi:10.1137/S003614459631241X).
"""

import numpy as np

STEP = 1e-30


def softmax(row, temperature=1.0):
    scaled = np.asarray(row) / temperature
    powers = np.exp(scaled - scaled.real.max())
    return powers / powers.sum()


def merge(p, top):
    """The outcomes of ``top`` each by itself, all others as one."""
    rest = np.delete(p, top)
    return np.concatenate([p[top], [rest.sum()]]) if len(rest) else p[top]


def kl(p, q):
    some = p != 0
    return (p[some] * np.log(p[some] / q[some])).sum()


def cross_entropy(logits, target):
    return -np.log(softmax(logits)[target])


def jensen_shannon(p, q, beta):
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def skewed_forward_kl(p, q, skew):
    return kl(p, skew * p + (1 - skew) * q)


def skewed_reverse_kl(p, q, skew):
    return kl(q, skew * q + (1 - skew) * p)


DIVERGENCES = {
    "forward_kl": lambda p, q, **_: kl(p, q),
    "reverse_kl": lambda p, q, **_: kl(q, p),
    "jensen_shannon": lambda p, q, beta, **_: jensen_shannon(p, q, beta),
    "skewed_forward_kl": lambda p, q, skew, **_: skewed_forward_kl(p, q, skew),
    "skewed_reverse_kl": lambda p, q, skew, **_: skewed_reverse_kl(p, q, skew),
}


def likeliest(p, k):
    return np.argsort(-p, kind="stable")[:k]


def divergence(name, logits, teacher_logits, k, temperature=1.0, beta=0.5, skew=0.1):
    """A divergence on the teacher's k likeliest tokens and the rest, at a temperature."""
    p = softmax(teacher_logits, temperature)
    top = likeliest(p, k)
    return DIVERGENCES[name](merge(p, top), merge(softmax(logits, temperature), top), beta=beta, skew=skew)


def universal(logits, teacher_logits, k, temperature=1.0):
    p = softmax(teacher_logits, temperature)
    q = softmax(logits, temperature)
    falling = [x[np.argsort(-x.real, kind="stable")] for x in (p, q)]
    pairs = [np.concatenate([x[:k], [x[k:].sum()]]) for x in falling]
    gaps = pairs[0] - pairs[1]
    return sum(gap * np.sign(gap.real) for gap in gaps)


def hidden_distance(student, teacher, measure):
    if measure == "cosine":
        return 1 - (student * teacher).sum() / np.sqrt((student**2).sum()) / np.sqrt((teacher**2).sum())
    squares = ((student - teacher) ** 2).sum()
    return squares / ((teacher**2).sum() if measure == "relative" else len(teacher))


def gradient(formula, x):
    """The derivative of ``formula`` by each of the numbers of ``x``."""
    steps = np.eye(len(x)) * STEP * 1j
    return np.array([formula(x + step).imag / STEP for step in steps])
