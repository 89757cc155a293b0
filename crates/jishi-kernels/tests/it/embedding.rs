use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::ops;

use crate::compare;

fn tokens(batch: usize, length: usize, rows: usize) -> Tensor<2, Int> {
    let values: Vec<i64> = (0..batch * length).map(|i| (i * 7919 % 104_729 % rows) as i64).collect();
    Tensor::from_data(TensorData::new(values, [batch, length]), &Device::flex())
}

#[test]
fn embeddings_are_their_twin() {
    for (rows, width, batch, length, offset) in [(1, 1, 1, 1, 0), (7, 5, 2, 3, 1), (50, 130, 4, 70, 9)] {
        let what = format!("embedding {rows} × {width} of {batch} × {length}");
        let tokens = tokens(batch, length, rows);
        let positions = offset + length + 2;
        compare!(
            what,
            1e-6,
            [table: [rows, width]],
            |table| ops::embedding(table, tokens.clone(), None),
            |table| ops::composed::embedding(table, tokens.clone(), None)
        );
        compare!(
            what,
            1e-6,
            [table: [rows, width], wpe: [positions, width]],
            |table, wpe| ops::embedding(table, tokens.clone(), Some((wpe, offset))),
            |table, wpe| ops::composed::embedding(table, tokens.clone(), Some((wpe, offset)))
        );
    }
}
