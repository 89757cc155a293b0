//! Sums over logits that losses and predictions share.

/// `1 / (1 + exp(−x))`.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Shares of a row of logits, written to `out`; the logarithm of their sum comes back.
pub(super) fn softmax(logits: &[f32], out: &mut [f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (out, logit) in out.iter_mut().zip(logits) {
        *out = (logit - most).exp();
        sum += *out;
    }
    out.iter_mut().for_each(|share| *share /= sum);
    most + sum.ln()
}
