//! How an operation of ours becomes one of Burn's: the one place that knows its dispatch and its tape.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use burn::backend::{
    Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, Flex,
    TensorMetadata,
};
use burn::tensor::{DType, Int, Shape, Tensor, TensorData};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use crate::profile;

/// What an operation keeps for its backward pass, and that pass.
pub(crate) trait Differentiable: Clone + Debug + Send + 'static {
    /// Names of the forward and the backward pass in profiles.
    const NAMES: [&'static str; 2];

    /// Gradients of the inputs, each where it is `wanted`, from that of the output.
    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>>;
}

thread_local! {
    static COMPOSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `f` with every operation that this thread calls composed of Burn's own, as on other backends: to compare a
/// whole model with itself.
pub fn composed_only<R>(f: impl FnOnce() -> R) -> R {
    /// Puts the flag back, also where `f` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPOSED.set(self.0);
        }
    }
    let _restore = Restore(COMPOSED.replace(true));
    f()
}

/// Whether a tensor is in this machine's memory as `f32`, so that our kernels can read it.
pub(crate) fn is_ours<const D: usize>(tensor: &Tensor<D>) -> bool {
    if COMPOSED.get() || tensor.dtype() != DType::F32 {
        return false;
    }
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(_) => true,
        DispatchTensorKind::Autodiff(inner) => matches!(*inner, DispatchTensorKind::Flex(_)),
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Whether a gradient of a tensor is asked for.
pub(crate) fn is_tracked<const D: usize>(tensor: &Tensor<D>) -> bool {
    let dispatch = tensor.clone().into_dispatch();
    if dispatch.autodiff == DispatchAutodiffContext::Disabled {
        return false;
    }
    tracked(dispatch).is_tracked()
}

/// Runs an operation and records its backward pass where an input asks for gradients. `forward` is told whether
/// to keep what that pass needs.
///
/// # Panics
/// When a tensor is not [`is_ours`], or there are more than six.
pub(crate) fn apply<const D: usize, O: Differentiable>(
    inputs: Vec<DispatchTensor>,
    forward: impl FnOnce(Vec<FlexTensor>, bool) -> (FlexTensor, Option<O>),
) -> Tensor<D> {
    let forward = |inputs: Vec<FlexTensor>, keep: bool| profile::time(O::NAMES[0], || forward(inputs, keep));
    match inputs.len() {
        1 => record::<D, 1, O>(inputs, forward),
        2 => record::<D, 2, O>(inputs, forward),
        3 => record::<D, 3, O>(inputs, forward),
        4 => record::<D, 4, O>(inputs, forward),
        5 => record::<D, 5, O>(inputs, forward),
        6 => record::<D, 6, O>(inputs, forward),
        n => panic!("an operation of {n} tensors"),
    }
}

/// The number of a parameter on the tape, where its gradient is asked for.
pub(crate) fn node_of<const D: usize>(tensor: Tensor<D>) -> Option<NodeId> {
    let dispatch = tensor.into_dispatch();
    if dispatch.autodiff == DispatchAutodiffContext::Disabled {
        return None;
    }
    let tensor = tracked(dispatch);
    tensor.is_tracked().then(|| tensor.into_parts().1.id())
}

/// Gradients of an input, and of parameters by their numbers on the tape.
pub(crate) type Found = (Option<FlexTensor>, Vec<(NodeId, FlexTensor)>);

/// What runs in the backward pass in place of what the forward pass would have kept.
#[derive(Clone)]
pub(crate) struct Deferred(pub Arc<Mutex<dyn FnMut(FlexTensor) -> Found + Send>>);

impl Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

#[derive(Debug)]
struct Later;

impl Backward<Flex, 1> for Later {
    type State = Deferred;

    fn backward(self, ops: Ops<Deferred, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let (input, parameters) = (ops.state.0.lock().expect("no other run panicked"))(gradient);
        let [parent] = ops.parents;
        if let (Some(parent), Some(input)) = (parent, input) {
            gradients.register::<Flex>(parent.id, input);
        }
        for (id, gradient) in parameters {
            gradients.register::<Flex>(id, gradient);
        }
    }
}

/// Records `output` as a function of `input` whose backward pass is `deferred`. The input has to be tracked.
pub(crate) fn record_deferred<const D: usize>(
    input: DispatchTensor,
    output: DispatchTensor,
    deferred: Deferred,
) -> Tensor<D> {
    let context = input.autodiff;
    let (_, node) = tracked(input).into_parts();
    let output = match Later.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(deferred, plain(output)),
        OpsKind::UnTracked(prepared) => prepared.finish(plain(output)),
    };
    let kind =
        DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(output))));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
}

/// Our operation as a step of Burn's tape.
#[derive(Debug)]
struct Step<O>(PhantomData<O>);

impl<O: Differentiable, const N: usize> Backward<Flex, N> for Step<O> {
    type State = O;

    fn backward(self, ops: Ops<O, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted: Vec<bool> = ops.parents.iter().map(Option::is_some).collect();
        let found = profile::time(O::NAMES[1], || ops.state.backward(gradient, &wanted));
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn record<const D: usize, const N: usize, O: Differentiable>(
    inputs: Vec<DispatchTensor>,
    forward: impl FnOnce(Vec<FlexTensor>, bool) -> (FlexTensor, Option<O>),
) -> Tensor<D> {
    let context = inputs
        .iter()
        .map(|i| i.autodiff)
        .fold(DispatchAutodiffContext::Disabled, DispatchAutodiffContext::merge);
    if context == DispatchAutodiffContext::Disabled {
        let inputs = inputs.into_iter().map(plain).collect();
        let (output, _) = forward(inputs, false);
        return Tensor::from_primitive::<Flex>(output);
    }
    let (mut nodes, mut primitives) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for input in inputs {
        let (primitive, node) = tracked(input).into_parts();
        primitives.push(primitive);
        nodes.push(node);
    }
    let nodes: [_; N] = nodes.try_into().unwrap_or_else(|_| unreachable!("as many nodes as inputs"));
    let output = match Step::<O>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let (output, kept) = forward(primitives, true);
            let kept = kept.expect("an operation keeps what its backward pass needs when it is told to");
            prepared.finish(kept, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(forward(primitives, false).0),
    };
    let kind =
        DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(output))));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
}

type Tracked = <Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// A float tensor as a node of the tape; one from outside is a constant.
fn tracked(tensor: DispatchTensor) -> Tracked {
    match tensor.kind {
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Flex(tensor) => tensor.autodiff(),
            #[allow(unreachable_patterns)]
            _ => panic!("a tensor of another backend"),
        },
        DispatchTensorKind::Flex(tensor) => {
            <Autodiff<Flex> as burn::backend::AutodiffBackend>::from_inner(tensor.float())
        }
        #[allow(unreachable_patterns)]
        _ => panic!("a tensor of another backend"),
    }
}

pub(crate) fn plain(tensor: DispatchTensor) -> FlexTensor {
    match tensor.kind {
        DispatchTensorKind::Flex(tensor) => tensor.float(),
        #[allow(unreachable_patterns)]
        _ => panic!("a tensor of another backend"),
    }
}

/// The numbers of a tensor; copied only where its layout is not row-major.
#[derive(Debug, Clone)]
pub(crate) struct Values(FlexTensor);

impl Values {
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        Self(if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() })
    }

    pub(crate) fn get(&self) -> &[f32] {
        self.0.as_slice::<f32>().expect("made contiguous")
    }

    pub(crate) fn shape(&self) -> Shape {
        self.0.shape()
    }

    pub(crate) fn into_tensor(self) -> FlexTensor {
        self.0
    }
}

/// A tensor of these numbers.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// The values of an index tensor, which holds no gradients.
///
/// # Panics
/// Where an index is negative or above `u32::MAX`: the message names it.
pub(crate) fn indices<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
    let data = tensor.into_data();
    let convert = |i: i64| u32::try_from(i).unwrap_or_else(|_| panic!("index {i} is out of range"));
    data.iter::<i64>().map(convert).collect()
}
