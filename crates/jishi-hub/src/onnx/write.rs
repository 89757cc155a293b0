//! A graph as a file: messages of `onnx.proto`, whose field numbers are here.

use std::path::Path;

use jishi_recipe::Problem;
use jishi_runs::atomic::AtomicFile;
use jishi_runs::{RealFs, RunError};

use super::graph::{Attribute, Constant, Dim, Graph, Kind, Node, Port, Values};
use super::message::Message;
use crate::error::HubError;

/// Version of the file format.
const FORMAT: i64 = 8;
/// Version of the operators.
const OPERATORS: i64 = 17;
/// What readers of protocol buffers accept: a length is a signed number of 32 bits.
const LARGEST: u64 = i32::MAX as u64;

/// Writes a graph.
///
/// # Errors
/// A [`Problem`] for a graph that is too large for the format; the system's errors.
pub fn write(path: &Path, graph: &Graph<'_>) -> Result<(), HubError> {
    let model = model(graph);
    fits(path, model.bytes())?;
    let mut file = AtomicFile::create(&RealFs, path)?;
    model.write(&mut file).map_err(|e| RunError::io(path, e))?;
    Ok(file.commit()?)
}

fn fits(path: &Path, bytes: u64) -> Result<(), Problem> {
    if bytes <= LARGEST {
        return Ok(());
    }
    let message = format!("expected at most {LARGEST} bytes in an ONNX file, found a model of {bytes}");
    Err(Problem::new(message).file(path).help("export it with `--format safetensors` or `--format gguf`"))
}

fn model<'a>(graph: &Graph<'a>) -> Message<'a> {
    let mut model = Message::default();
    model.int(1, FORMAT);
    model.delimited(2, b"jishi");
    model.delimited(3, env!("CARGO_PKG_VERSION").as_bytes());
    let mut operators = Message::default();
    operators.delimited(1, b"");
    operators.int(2, OPERATORS);
    model.message(8, operators);
    for (key, value) in &graph.metadata {
        let mut entry = Message::default();
        entry.delimited(1, key.as_bytes());
        entry.delimited(2, value.as_bytes());
        model.message(14, entry);
    }
    let mut body = Message::default();
    for node in &graph.nodes {
        body.message(1, node_message(node));
    }
    body.delimited(2, graph.name.as_bytes());
    for constant in &graph.constants {
        body.message(5, tensor(constant));
    }
    for port in &graph.inputs {
        body.message(11, value_info(port));
    }
    for port in &graph.outputs {
        body.message(12, value_info(port));
    }
    model.message(7, body);
    model
}

fn node_message(node: &Node) -> Message<'static> {
    let mut message = Message::default();
    for input in &node.inputs {
        message.delimited(1, input.as_bytes());
    }
    for output in &node.outputs {
        message.delimited(2, output.as_bytes());
    }
    let name = node.outputs.first().map_or("", String::as_str);
    message.delimited(3, name.as_bytes());
    message.delimited(4, node.operator.as_bytes());
    for (name, attribute) in &node.attributes {
        let mut entry = Message::default();
        entry.delimited(1, name.as_bytes());
        let kind = match attribute {
            Attribute::Float(value) => {
                entry.float(2, *value);
                1
            }
            Attribute::Int(value) => {
                entry.int(3, *value);
                2
            }
            Attribute::Ints(values) => {
                values.iter().for_each(|&value| entry.int(8, value));
                7
            }
        };
        entry.int(20, kind);
        message.message(5, entry);
    }
    message
}

fn data_type(kind: Kind) -> i64 {
    match kind {
        Kind::F32 => 1,
        Kind::I64 => 7,
    }
}

fn tensor<'a>(constant: &Constant<'a>) -> Message<'a> {
    let mut message = Message::default();
    constant.shape.iter().for_each(|&dim| message.int(1, dim as i64));
    let kind = match &constant.values {
        Values::Weights(_) | Values::F32(_) => Kind::F32,
        Values::I64(_) => Kind::I64,
    };
    message.int(2, data_type(kind));
    message.delimited(8, constant.name.as_bytes());
    match &constant.values {
        Values::Weights(values) => message.numbers(9, values),
        Values::F32(values) => {
            message.delimited(9, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        }
        Values::I64(values) => {
            message.delimited(9, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        }
    }
    message
}

fn value_info(port: &Port) -> Message<'static> {
    let mut shape = Message::default();
    for dim in &port.dims {
        let mut message = Message::default();
        match dim {
            Dim::Fixed(length) => message.int(1, *length as i64),
            Dim::Named(name) => message.delimited(2, name.as_bytes()),
        }
        shape.message(1, message);
    }
    let mut tensor = Message::default();
    tensor.int(1, data_type(port.kind));
    tensor.message(2, shape);
    let mut kind = Message::default();
    kind.message(1, tensor);
    let mut message = Message::default();
    message.delimited(1, port.name.as_bytes());
    message.message(2, kind);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_above_the_limit_is_refused() {
        let path = Path::new("large.onnx");
        assert!(fits(path, LARGEST).is_ok());
        let text = fits(path, LARGEST + 1).expect_err("too large").to_string();
        assert!(text.contains("2147483647") && text.contains("2147483648"), "{text}");
        assert!(text.contains("safetensors"), "{text}");
    }
}
