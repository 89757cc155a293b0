//! A part of a model that keeps nothing but its input (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
//! Cost", §3): the backward pass runs it forward again.

use std::sync::{Arc, Mutex};

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use burn_autodiff::NodeId;
use burn_flex::FlexTensor;

use super::custom::{Deferred, Found, is_ours, is_tracked, node_of, plain, record_deferred};

/// `forward(module, x)`, of which the tape keeps `x` alone. `forward` has to give the same each time.
///
/// # Shapes
/// - output: as `forward` gives it
pub fn recomputed<M: Module + 'static, const D: usize, const E: usize>(
    module: &M,
    x: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + Send + 'static,
) -> Tensor<E> {
    let mut nodes = Nodes::default();
    module.visit(&mut nodes);
    let nodes = nodes.0;
    let trained = nodes.iter().any(Option::is_some);
    if !is_ours(&x) || !(trained || is_tracked(&x)) {
        return forward(module, x);
    }
    // Something has to be tracked for the step to be recorded, also where parameters alone are trained.
    let input = if is_tracked(&x) { x } else { x.inner().autodiff().require_grad() };
    let (module, x) = (module.valid(), input.clone().inner());
    let output = forward(&module, x.clone());
    let run = move |gradient: FlexTensor| -> Found {
        let module = module.clone().map(&mut Tracker { nodes: nodes.iter() });
        let x = x.clone().autodiff().require_grad();
        let gradient = Tensor::<E>::from_primitive::<Flex>(gradient);
        let y = forward(&module, x.clone());
        let mut gradients = (y * Tensor::from_inner(gradient)).sum().backward();
        let dx = x.grad_remove(&mut gradients).map(|dx| plain(dx.into_dispatch()));
        let mut taker = Taker { gradients, nodes: nodes.iter(), found: Vec::new() };
        module.visit(&mut taker);
        (dx, taker.found)
    };
    record_deferred(input.into_dispatch(), output.into_dispatch(), Deferred(Arc::new(Mutex::new(run))))
}

/// Where parameters are on the tape, in visiting order.
#[derive(Default)]
struct Nodes(Vec<Option<NodeId>>);

impl ModuleVisitor for Nodes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(node_of(param.val()));
    }
}

/// Puts parameters on a tape of their own.
struct Tracker<'a> {
    nodes: std::slice::Iter<'a, Option<NodeId>>,
}

impl ModuleMapper for Tracker<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = self.nodes.next().is_some_and(Option::is_some);
        param.map(|value| value.inner().autodiff().set_require_grad(trained))
    }
}

/// Takes the gradients of parameters.
struct Taker<'a> {
    gradients: Gradients,
    nodes: std::slice::Iter<'a, Option<NodeId>>,
    found: Vec<(NodeId, FlexTensor)>,
}

impl ModuleVisitor for Taker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let node = self.nodes.next().copied().flatten();
        if let (Some(node), Some(gradient)) = (node, param.val().grad_remove(&mut self.gradients)) {
            self.found.push((node, plain(gradient.into_dispatch())));
        }
    }
}
