//! What models of images are built from, of planes `[batch, channels, height, width]`.

use jishi_hub::onnx::Attribute;
use jishi_models::layers::norm::EPS;
use jishi_recipe::Problem;

use super::layers::Builder;

impl<'a> Builder<'a> {
    /// A convolution of `[batch, channels, height, width]`, with a bias where there is one.
    pub(super) fn convolution(
        &mut self,
        x: &str,
        name: &str,
        stride: usize,
        padding: usize,
    ) -> Result<String, Problem> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.weight(&bias)?) } else { None };
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        let attributes = [
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
            ("pads", Attribute::Ints(vec![padding as i64; 4])),
        ];
        Ok(self.graph.node("Conv", &inputs, &attributes))
    }

    /// Batch normalisation of the channels of `[batch, channels, height, width]`, by the running statistics.
    pub(super) fn channel_norm(&mut self, x: &str, name: &str) -> Result<String, Problem> {
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = [("epsilon", Attribute::Float(EPS as f32))];
        Ok(self.graph.node("BatchNormalization", &inputs, &epsilon))
    }

    pub(super) fn max_pool(&mut self, x: &str, side: i64, stride: i64, padding: i64) -> String {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![side; 2])),
            ("strides", Attribute::Ints(vec![stride; 2])),
            ("pads", Attribute::Ints(vec![padding; 4])),
        ];
        self.graph.node("MaxPool", &[x], &attributes)
    }

    /// Each pixel of `[batch, channels, height, width]` as four.
    pub(super) fn doubled(&mut self, x: &str) -> String {
        // The nearest pixel is what the operator takes where nothing else is said.
        let scales = self.graph.numbers(&[1.0, 1.0, 2.0, 2.0]);
        self.graph.node("Resize", &[x, "", &scales], &[])
    }

    /// Planes `[batch, channels, height, width]` with the channels last, as `[batch, rows, values]`.
    pub(super) fn listed(&mut self, x: &str, rows: usize, values: usize) -> String {
        let x = self.transposed(x, &[0, 2, 3, 1]);
        let shape = self.graph.integers(&[0, rows as i64, values as i64]);
        self.two("Reshape", &x, &shape)
    }
}
