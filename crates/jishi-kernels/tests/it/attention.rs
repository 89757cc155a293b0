use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use jishi_kernels::Precision;
use jishi_kernels::cpu::attention::Dropout;
use jishi_kernels::ops::{self, Attention};

use crate::{close, compare, parameter, values};

fn mask(batch: usize, keys: usize) -> Tensor<2, Bool> {
    let seen: Vec<bool> = (0..batch * keys).map(|i| i % 5 != 2).collect();
    Tensor::from_data(TensorData::new(seen, [batch, keys]), &Device::flex())
}

/// Documents of these lengths, over and over; the first ones of a sequence differ from those of the next.
fn starts(batch: usize, time: usize, lengths: &[usize]) -> Tensor<2, Int> {
    let mut values: Vec<i64> = Vec::new();
    for b in 0..batch {
        let mut row: Vec<i64> = Vec::new();
        for length in lengths.iter().cycle().skip(b) {
            row.extend(vec![row.len() as i64; *length]);
            if row.len() >= time {
                break;
            }
        }
        values.extend(&row[..time]);
    }
    Tensor::from_data(TensorData::new(values, [batch, time]), &Device::flex())
}

fn cases() -> Vec<(usize, usize, usize, usize, Attention)> {
    let of = |heads, kv_heads| Attention { kv_heads, ..Attention::new(heads) };
    let dropout = Some(Dropout { rate: 0.3, seed: 77, first: 3 });
    vec![
        (1, 1, 1, 1, of(1, 1)),
        (2, 3, 3, 4, of(2, 2).causal()),
        (2, 5, 9, 8, of(4, 2)),
        (1, 7, 19, 8, of(3, 1).causal()),
        (2, 200, 200, 16, of(2, 1).causal()),
        (3, 90, 101, 5, Attention { mask: Some(mask(3, 101)), ..of(2, 2) }),
        (1, 33, 33, 12, Attention { dropout, ..of(2, 2).causal() }),
        (2, 7, 7, 4, Attention { starts: Some(starts(2, 7, &[3, 1])), ..of(2, 2).causal() }),
        (2, 261, 261, 16, Attention { starts: Some(starts(2, 261, &[70, 33, 1, 110])), ..of(4, 2).causal() }),
        (1, 300, 300, 5, Attention { starts: Some(starts(1, 300, &[150, 75])), ..of(1, 1) }),
        (
            2,
            99,
            99,
            8,
            Attention {
                dropout,
                mask: Some(mask(2, 99)),
                starts: Some(starts(2, 99, &[41, 2])),
                ..of(2, 1).causal()
            },
        ),
        // A query that starts after its own position sees nothing.
        (1, 100, 100, 4, Attention { starts: Some(starts(1, 100, &[1]).add_scalar(5)), ..of(1, 1).causal() }),
        (2, 33, 40, 12, Attention { dropout, mask: Some(mask(2, 40)), ..of(4, 2) }),
    ]
}

#[test]
fn attentions_are_their_twins() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (batch, queries, keys, dim, with) in cases() {
            let with = Attention { precision, ..with };
            let tolerance = if precision == Precision::F32 { 3e-5 } else { 4e-2 };
            let (width, kv_width) = (with.heads * dim, with.kv_heads * dim);
            compare!(
                format!("{precision:?} attention {batch} × {queries} over {keys}, {dim} a head, {with:?}"),
                tolerance,
                [q: [batch, queries, width], k: [batch, keys, kv_width], v: [batch, keys, kv_width]],
                |q, k, v| ops::attention(q, k, v, &with),
                |q, k, v| ops::composed::attention(q, k, v, &with)
            );
        }
    }
}

#[test]
fn self_attention_reads_queries_keys_and_values_of_one_tensor() {
    for (batch, time, dim, with) in [
        (2, 6, 4, Attention::new(2).causal()),
        (1, 100, 8, Attention { kv_heads: 2, ..Attention::new(4) }.causal()),
        (3, 85, 3, Attention::new(1)),
    ] {
        let width = (with.heads + 2 * with.kv_heads) * dim;
        compare!(
            format!("self-attention {batch} × {time}, {dim} a head"),
            3e-5,
            [qkv: [batch, time, width]],
            |qkv| ops::self_attention(qkv, &with),
            |qkv| ops::composed::self_attention(qkv, &with)
        );
    }
}

#[test]
fn a_query_that_sees_nothing_gets_zeros_and_no_gradient() {
    let hidden = Tensor::<2, Bool>::from_data(TensorData::new(vec![false; 6], [2, 3]), &Device::flex());
    let with = Attention { mask: Some(hidden), ..Attention::new(1) };
    let (q, k, v) = (parameter([2, 3, 4], 1), parameter([2, 3, 4], 2), parameter([2, 3, 4], 3));
    let y = ops::attention(q.clone(), k, v, &with);
    close(&values(y.clone()), &[0.0; 24], 0.0, "output");
    let mut gradients = y.sum().backward();
    let dq = q.grad_remove(&mut gradients).expect("a gradient");
    close(&dq.into_data().try_to_vec::<f32>().expect("f32"), &[0.0; 24], 0.0, "gradient");
}

#[test]
fn a_causal_answer_does_not_depend_on_later_positions() {
    let with = Attention::new(2).causal();
    let qkv = parameter([1, 120, 24], 4).inner();
    let whole = values(ops::self_attention(qkv.clone(), &with));
    let start = values(ops::self_attention(qkv.narrow(1, 0, 50), &with));
    close(&start, &whole[..start.len()], 1e-6, "the first 50 positions");
}

#[test]
fn packed_documents_are_as_if_alone() {
    let lengths = [50, 7, 120, 1, 22];
    let total = lengths.iter().sum();
    let qkv = parameter([1, total, 24], 4).inner();
    let with = Attention { starts: Some(starts(1, total, &lengths)), ..Attention::new(2).causal() };
    let packed = values(ops::self_attention(qkv.clone(), &with));
    let mut at = 0;
    for length in lengths {
        let alone =
            values(ops::self_attention(qkv.clone().narrow(1, at, length), &Attention::new(2).causal()));
        close(&alone, &packed[at * 8..][..length * 8], 1e-6, &format!("document of {length} at {at}"));
        at += length;
    }
}

#[test]
fn dropout_keeps_the_mean_and_the_rate() {
    let dropout = Dropout { rate: 0.25, seed: 5, first: 0 };
    let factors: Vec<f32> = (0..400).flat_map(|r| (0..300).map(move |k| dropout.factor(r, k))).collect();
    let zeros = factors.iter().filter(|f| **f == 0.0).count() as f64 / factors.len() as f64;
    assert!((zeros - 0.25).abs() < 0.01, "{zeros}");
    let mean = factors.iter().sum::<f32>() / factors.len() as f32;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
    let other = Dropout { rate: 0.25, seed: 6, first: 0 };
    assert!((0..100).any(|k| dropout.factor(0, k) != other.factor(0, k)));
}
