//! ONNX files: a graph of operators with its weights, which many runtimes run (specification: the `onnx` repository,
//! `docs/IR.md` and `onnx/onnx.proto`).
//!
//! [`Graph`] is what is written, [`write()`] writes it, [`run`] reads a file back and computes with it. Operators are
//! those of operator set 17, the first with layer normalisation.

mod graph;
mod message;
mod run;
mod write;

pub use graph::{Attribute, Dim, Graph, Kind};
pub use run::{Input, Numbers, Output, run};
pub use write::write;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// `y = x · weight + bias`, and the sum of the rows of `i` before the last.
    fn graph(weight: &[f32]) -> Graph<'_> {
        let mut graph = Graph::new("tiny");
        graph.metadata.insert("task".into(), "none".into());
        let batch = Dim::Named("batch");
        let x = graph.input("x", Kind::F32, &[batch, Dim::Fixed(2)]);
        let i = graph.input("i", Kind::I64, &[batch]);
        let weight = graph.weights("weight", &[2, 3], weight).expect("six values");
        let bias = graph.numbers(&[0.5, 0.0, -0.5]);
        let y = graph.node("MatMul", &[&x, &weight], &[]);
        let y = graph.node("Add", &[&y, &bias], &[]);
        let rows = graph.node("Gather", &[&y, &i], &[("axis", Attribute::Int(0))]);
        let lengths = graph.integers(&[2, 1]);
        let [first, last] = graph.nodes("Split", &[&y, &lengths], &[("axis", Attribute::Int(-1))]);
        let leaky = graph.node("LeakyRelu", &[&last], &[("alpha", Attribute::Float(0.1))]);
        graph.output("rows", &rows, Kind::F32, &[batch, Dim::Fixed(3)]);
        graph.output("first", &first, Kind::F32, &[batch, Dim::Fixed(2)]);
        graph.output("last", &leaky, Kind::F32, &[batch, Dim::Fixed(1)]);
        graph
    }

    fn inputs(rows: usize) -> Vec<Input> {
        let x = (0..2 * rows).map(|i| i as f32).collect();
        let i = (0..rows as i64).rev().collect();
        vec![
            Input { name: "x".into(), shape: vec![rows, 2], values: Numbers::F32(x) },
            Input { name: "i".into(), shape: vec![rows], values: Numbers::I64(i) },
        ]
    }

    #[test]
    fn a_file_computes_what_its_graph_says_for_any_batch() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tiny.onnx");
        write(&path, &graph(&[1.0, 2.0, -1.0, 0.0, 1.0, -1.0])).expect("a small graph");
        for rows in [1, 3] {
            let found = run(&path, &inputs(rows)).expect("a sound file");
            let names: Vec<&str> = found.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(names, ["rows", "first", "last"]);
            assert_eq!(found[0].shape, [rows, 3]);
            let y = |row: usize| {
                let (a, b) = ((2 * row) as f32, (2 * row + 1) as f32);
                [a + 0.5, 2.0 * a + b, -a - b - 0.5]
            };
            let backwards: Vec<f32> = (0..rows).rev().flat_map(y).collect();
            assert_eq!(found[0].values, backwards);
            assert_eq!(found[1].values, (0..rows).flat_map(|r| [y(r)[0], y(r)[1]]).collect::<Vec<_>>());
            assert_eq!(found[2].values, (0..rows).map(|r| 0.1 * y(r)[2]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn inputs_and_files_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tiny.onnx");
        write(&path, &graph(&[0.0; 6])).expect("a small graph");
        let said = |inputs: &[Input]| run(&path, inputs).expect_err("does not fit").to_string();
        assert!(said(&inputs(2)[..1]).contains(r#"["x", "i"]"#), "{}", said(&inputs(2)[..1]));
        let mut wrong = inputs(2);
        wrong[0].shape = vec![2, 3];
        assert!(said(&wrong).contains("can't take inputs"), "{}", said(&wrong));
        let whole = fs::read(&path).expect("the file");
        let cut = dir.path().join("cut.onnx");
        jishi_runs::atomic::write_real(&cut, &whole[..whole.len() / 2]).expect("a file");
        assert!(run(&cut, &inputs(2)).is_err());
        let mut small = Graph::new("small");
        let said = small.weights("w", &[2, 2], &[0.0; 3]).expect_err("too few").to_string();
        assert!(said.contains("`w` should have [2, 2] values, found 3"), "{said}");
    }
}
