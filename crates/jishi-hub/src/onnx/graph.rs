//! A graph of operators, built one node after another.

use std::collections::BTreeMap;

use jishi_recipe::Problem;

/// Type of a value's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floating point.
    F32,
    /// 64-bit integers.
    I64,
}

/// An axis of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Always this long.
    Fixed(usize),
    /// As long as the caller wants, under this name.
    Named(&'static str),
}

/// What an operator is told besides its inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f32),
    /// Whole numbers.
    Ints(Vec<i64>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) operator: &'static str,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values<'a> {
    /// Weights, which are not copied.
    Weights(&'a [f32]),
    F32(Vec<f32>),
    I64(Vec<i64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) dims: Vec<Dim>,
}

/// A graph: inputs, weights, nodes in the order in which they can be computed, outputs. Values are known by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph<'a> {
    /// Its name.
    pub name: String,
    /// What a reader may want to know about the model.
    pub metadata: BTreeMap<String, String>,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    pub(super) constants: Vec<Constant<'a>>,
    pub(super) nodes: Vec<Node>,
    scope: String,
}

impl<'a> Graph<'a> {
    /// A graph of nothing.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            metadata: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            constants: Vec::new(),
            nodes: Vec::new(),
            scope: String::new(),
        }
    }

    /// Values that follow have names that begin with this, for those who look at the graph.
    pub fn scope(&mut self, scope: &str) {
        self.scope = scope.into();
    }

    /// An input; its name is also that of its value.
    pub fn input(&mut self, name: &str, kind: Kind, dims: &[Dim]) -> String {
        self.inputs.push(Port { name: name.into(), kind, dims: dims.to_vec() });
        name.into()
    }

    /// Makes a value an output under this name.
    pub fn output(&mut self, name: &str, value: &str, kind: Kind, dims: &[Dim]) {
        self.nodes.push(Node {
            operator: "Identity",
            inputs: vec![value.into()],
            outputs: vec![name.into()],
            attributes: Vec::new(),
        });
        self.outputs.push(Port { name: name.into(), kind, dims: dims.to_vec() });
    }

    /// Weights under this name; the same name again is the same value.
    ///
    /// # Errors
    /// A [`Problem`] where the values do not fill the shape.
    pub fn weights(&mut self, name: &str, shape: &[usize], values: &'a [f32]) -> Result<String, Problem> {
        if shape.iter().product::<usize>() != values.len() {
            let problem =
                Problem::new(format!("tensor `{name}` should have {shape:?} values, found {}", values.len()));
            return Err(problem.help("the model is damaged: train or fetch it again"));
        }
        if !self.constants.iter().any(|c| c.name == name) {
            self.constants.push(Constant {
                name: name.into(),
                shape: shape.to_vec(),
                values: Values::Weights(values),
            });
        }
        Ok(name.into())
    }

    /// A row of numbers that follow from the model's sizes.
    pub fn numbers(&mut self, values: &[f32]) -> String {
        self.constant("numbers", vec![values.len()], Values::F32(values.to_vec()))
    }

    /// A single number.
    pub fn number(&mut self, value: f32) -> String {
        self.constant("number", Vec::new(), Values::F32(vec![value]))
    }

    /// A row of whole numbers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.constant("integers", vec![values.len()], Values::I64(values.to_vec()))
    }

    /// A single whole number.
    pub fn integer(&mut self, value: i64) -> String {
        self.constant("integer", Vec::new(), Values::I64(vec![value]))
    }

    fn constant(&mut self, what: &str, shape: Vec<usize>, values: Values<'a>) -> String {
        let same = |c: &&Constant<'_>| c.shape == shape && c.values == values;
        if let Some(found) = self.constants.iter().find(same) {
            return found.name.clone();
        }
        let name = format!("{what}_{}", self.constants.len());
        self.constants.push(Constant { name: name.clone(), shape, values });
        name
    }

    /// A node of one output.
    pub fn node(
        &mut self,
        operator: &'static str,
        inputs: &[&str],
        attributes: &[(&'static str, Attribute)],
    ) -> String {
        let [output] = self.nodes(operator, inputs, attributes);
        output
    }

    /// A node of `N` outputs.
    pub fn nodes<const N: usize>(
        &mut self,
        operator: &'static str,
        inputs: &[&str],
        attributes: &[(&'static str, Attribute)],
    ) -> [String; N] {
        let (scope, number) = (&self.scope, self.nodes.len());
        let outputs: [String; N] = std::array::from_fn(|i| match N {
            1 => format!("{scope}/{operator}_{number}"),
            _ => format!("{scope}/{operator}_{number}.{i}"),
        });
        self.nodes.push(Node {
            operator,
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: outputs.to_vec(),
            attributes: attributes.to_vec(),
        });
        outputs
    }
}
