//! Tables of embeddings, of tokens and of positions.

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::{Precision, ops};

use crate::init::Scope;

/// A table of embeddings.
#[derive(Module, Debug)]
pub struct Table {
    /// `[entries, width]`
    pub weight: Param<Tensor<2>>,
}

impl Table {
    /// A table of normal values.
    #[must_use]
    pub fn init(scope: &Scope, [entries, width]: [usize; 2], deviation: f32) -> Self {
        Self { weight: scope.normal("weight", [entries, width], deviation) }
    }

    /// Entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.weight.dims()[0]
    }

    /// The rows of tokens.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`, output: `[batch, time, width]`
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        ops::embedding(self.weight.val(), tokens, None)
    }
}

/// The place of every token in its document.
///
/// # Shapes
/// - starts: `[batch, time]`: the place of the document's first token
/// - output: `[batch, time]`
#[must_use]
pub fn positions(starts: Tensor<2, Int>) -> Tensor<2, Int> {
    let [batch, time] = starts.dims();
    let device: Device = starts.device();
    let places = Tensor::<1, Int>::arange(0..time as i64, &device).reshape([1, time]);
    places.expand([batch, time]) - starts
}

/// Logits of every position's next token, `[batch, time, vocabulary]`.
///
/// # Shapes
/// - x: `[batch, time, width]`, output: `[vocabulary, width]`
#[must_use]
pub fn next_token_logits(x: Tensor<3>, output: Tensor<2>, precision: Precision) -> Tensor<3> {
    ops::linear(x, output.transpose(), ops::Linear { precision, ..ops::Linear::default() })
}

/// Sum of the cross-entropies of next tokens, `[1]`, without holding all logits in memory.
///
/// # Shapes
/// - x: `[batch, time, width]`, output: `[vocabulary, width]`, targets: `[batch · time]`
#[must_use]
pub fn next_token_loss(
    x: Tensor<3>,
    output: Tensor<2>,
    targets: Tensor<1, Int>,
    options: Options,
    precision: Precision,
) -> Tensor<1> {
    let [batch, time, width] = x.dims();
    let x = x.reshape([batch * time, width]);
    ops::linear_cross_entropy(x, output, Layout::OutIn, targets, options, precision)
}

/// Log-probabilities of tokens, `[rows]`, from the logits of at most `most` rows at a time: without a tape no others are
/// ever in memory.
///
/// # Shapes
/// - x: `[rows, width]`, output: `[vocabulary, width]`, targets: `[rows]`
#[must_use]
pub fn log_probabilities(
    x: Tensor<2>,
    output: Tensor<2>,
    targets: Tensor<1, Int>,
    precision: Precision,
    most: usize,
) -> Tensor<1> {
    let ([rows, width], [vocabulary, _]) = (x.dims(), output.dims());
    let of = |first: usize| {
        let count = most.min(rows - first);
        let part = x.clone().narrow(0, first, count).reshape([1, count, width]);
        let logits = next_token_logits(part, output.clone(), precision).reshape([count, vocabulary]);
        let targets = targets.clone().narrow(0, first, count).reshape([count, 1]);
        log_softmax(logits, 1).gather(1, targets).reshape([count])
    };
    Tensor::cat((0..rows).step_by(most).map(of).collect(), 0)
}

/// Rows and a table of an output layer with a bias, as the loss of [`ops::linear_cross_entropy`] takes them: the bias
/// is one more column, which ones multiply.
///
/// # Shapes
/// - x: `[rows, width]`, weight: `[vocabulary, width]`, bias: `[vocabulary]`
/// - output: `[rows, width + 1]`, `[vocabulary, width + 1]`
#[must_use]
pub fn with_bias(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> (Tensor<2>, Tensor<2>) {
    let ([rows, _], [vocabulary, _]) = (x.dims(), weight.dims());
    let ones = Tensor::ones([rows, 1], &x.device());
    (Tensor::cat(vec![x, ones], 1), Tensor::cat(vec![weight, bias.reshape([vocabulary, 1])], 1))
}
